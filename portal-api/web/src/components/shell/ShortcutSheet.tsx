/** The sheet of keys, and the switch that turns the single ones off. */
import { Kbd, Modal, Switch } from "@mantine/core";
import { NAVIGATION } from "./navigation";
import { usePortal } from "./portal";
import classes from "./Shell.module.css";
import { useShortcutsEnabled } from "./useShortcuts";

interface Props {
  readonly opened: boolean;
  readonly onClose: () => void;
}

export function ShortcutSheet({ opened, onClose }: Props) {
  const { audience } = usePortal();
  const [enabled, setEnabled] = useShortcutsEnabled();
  const rows: [string[], string][] = [
    [["Ctrl", "K"], "Search or jump anywhere"],
    [["/"], "Search payments"],
    ...NAVIGATION[audience].map(({ key, label }): [string[], string] => [
      ["g", key],
      `Go to ${label}`,
    ]),
    [["j"], "Next row of a list"],
    [["k"], "Previous row of a list"],
    [["Enter"], "Open the chosen row"],
    [["?"], "This sheet"],
  ];
  return (
    <Modal opened={opened} onClose={onClose} title="Keyboard shortcuts" size="sm">
      <dl className={classes.keys}>
        {rows.map(([keys, what]) => (
          <div key={what}>
            <dt>{what}</dt>
            <dd>
              {keys.map((key) => (
                <Kbd key={key}>{key}</Kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
      <Switch
        mt="md"
        checked={enabled}
        onChange={(event) => setEnabled(event.currentTarget.checked)}
        label="Single-key shortcuts"
        description="Ctrl K stays on."
      />
    </Modal>
  );
}
