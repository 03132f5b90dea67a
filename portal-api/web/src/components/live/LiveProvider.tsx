/** The page's one live stream: its state, and the changes it brings, for whoever listens. */
import {
  createContext,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { PaymentChange } from "../../api/model";

/** `resting`: closed on purpose, because nobody looks at the tab. */
export type LiveState = "connecting" | "live" | "stale" | "resting";

export type LiveEvent =
  | { readonly kind: "payment"; readonly payment: PaymentChange }
  /** Something may have been missed: read again. */
  | { readonly kind: "reset" };

interface Live {
  readonly state: LiveState;
  /** When the page last knew that it was up to date, in epoch milliseconds. */
  readonly freshAt: number;
  readonly subscribe: (listener: (event: LiveEvent) => void) => () => void;
}

const LiveContext = createContext<Live | null>(null);
const URL = "/bff/v1/stream?topics=payment,metrics";
const STALE_AFTER_MS = 4_000;
const RETRY_FIRST_MS = 2_000;
const RETRY_LONGEST_MS = 30_000;
// A short look at another tab should not cost a reconnect and a refetch.
const REST_AFTER_MS = 20_000;

interface Handlers {
  readonly onState: (state: LiveState) => void;
  readonly onEvent: (event: LiveEvent) => void;
}

/** Keep one stream open until the returned function is called; it reopens by itself. */
function openStream({ onState, onEvent }: Handlers): () => void {
  let source: EventSource | null = null;
  let staleTimer: ReturnType<typeof setTimeout> | undefined;
  let retryTimer: ReturnType<typeof setTimeout> | undefined;
  let restTimer: ReturnType<typeof setTimeout> | undefined;
  let retryMs = RETRY_FIRST_MS;
  let opened = false;

  const connect = () => {
    source?.close();
    source = new EventSource(URL);
    source.onopen = () => {
      clearTimeout(staleTimer);
      staleTimer = undefined;
      retryMs = RETRY_FIRST_MS;
      // A new EventSource doesn't know the last id; the browser's own reconnect does, and then
      // the server replays. Reading again is right in both cases and cheap.
      if (opened) onEvent({ kind: "reset" });
      opened = true;
      onState("live");
    };
    source.onerror = () => {
      staleTimer ??= setTimeout(() => onState("stale"), STALE_AFTER_MS);
      if (source?.readyState !== EventSource.CLOSED) return;
      clearTimeout(retryTimer);
      retryTimer = setTimeout(connect, retryMs);
      retryMs = Math.min(RETRY_LONGEST_MS, retryMs * 2);
    };
    source.addEventListener("payment", (message: MessageEvent<string>) => {
      const data = JSON.parse(message.data) as { payment: PaymentChange };
      onEvent({ kind: "payment", payment: data.payment });
    });
    source.addEventListener("reset", () => onEvent({ kind: "reset" }));
  };

  const onVisibility = () => {
    clearTimeout(restTimer);
    if (document.hidden) {
      restTimer = setTimeout(() => {
        source?.close();
        source = null;
        clearTimeout(retryTimer);
        onState("resting");
      }, REST_AFTER_MS);
    } else if (!source) {
      onState("connecting");
      connect();
    }
  };

  connect();
  document.addEventListener("visibilitychange", onVisibility);
  return () => {
    document.removeEventListener("visibilitychange", onVisibility);
    for (const timer of [staleTimer, retryTimer, restTimer]) clearTimeout(timer);
    source?.close();
  };
}

export function LiveProvider({ children }: { readonly children: ReactNode }) {
  const [state, setState] = useState<LiveState>("connecting");
  const [freshAt, setFreshAt] = useState(() => Date.now());
  const listeners = useRef(new Set<(event: LiveEvent) => void>());
  const subscribe = useCallback((listener: (event: LiveEvent) => void) => {
    listeners.current.add(listener);
    return () => {
      listeners.current.delete(listener);
    };
  }, []);
  useEffect(
    () =>
      openStream({
        onState: (next) => {
          setState((before) => {
            if (before === "live" || next === "live") setFreshAt(Date.now());
            return next;
          });
        },
        onEvent: (event) => {
          for (const listener of listeners.current) listener(event);
        },
      }),
    [],
  );
  const live = useMemo(() => ({ state, freshAt, subscribe }), [state, freshAt, subscribe]);
  return <LiveContext value={live}>{children}</LiveContext>;
}

export function useLive(): Live {
  const live = useContext(LiveContext);
  if (!live) throw new Error("this component belongs inside a LiveProvider");
  return live;
}

/** Call `listener` for each change while the component is on the page. */
export function useLiveEvents(listener: (event: LiveEvent) => void): void {
  const { subscribe } = useLive();
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => subscribe((event) => latest.current(event)), [subscribe]);
}
