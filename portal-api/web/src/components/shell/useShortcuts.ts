/** Single-key shortcuts: `/`, `?`, `g` and a letter, `j` `k` Enter in lists; they can be turned off. */
import { useLocalStorage } from "@mantine/hooks";
import { useEffect, useRef } from "react";

const SEQUENCE_MS = 1_200;

/** The person's choice, kept in the browser. */
export function useShortcutsEnabled() {
  return useLocalStorage({ key: "mospay.shortcuts", defaultValue: true });
}

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName))
  );
}

/** Run `bindings["g d"]` on g then d, `bindings["/"]` on a slash; nothing while one types. */
export function useShortcuts(bindings: Readonly<Record<string, () => void>>): void {
  const [enabled] = useShortcutsEnabled();
  const latest = useRef(bindings);
  latest.current = bindings;
  useEffect(() => {
    if (!enabled) return;
    let first = "";
    let firstAt = 0;
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (document.querySelector('[role="dialog"]')) return;
      const pair = event.timeStamp - firstAt < SEQUENCE_MS ? `${first} ${event.key}` : "";
      const run = latest.current[pair] ?? latest.current[event.key];
      first = event.key;
      firstAt = event.timeStamp;
      if (!run) return;
      event.preventDefault();
      first = "";
      run();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [enabled]);
}
