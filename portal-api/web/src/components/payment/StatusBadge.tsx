/** A payment's state: always icon and word, never colour alone. */
import {
  IconAlertTriangle,
  IconBan,
  IconCheck,
  IconClockPause,
  IconHourglassEmpty,
  IconLoader2,
  IconQuestionMark,
  IconUserQuestion,
  IconX,
} from "@tabler/icons-react";
import classes from "./StatusBadge.module.css";
import { meaningOf } from "./status";

const ICONS: Record<string, typeof IconCheck> = {
  succeeded: IconCheck,
  processing: IconLoader2,
  requires_customer_action: IconUserQuestion,
  held: IconClockPause,
  unknown: IconQuestionMark,
  failed: IconX,
  conflicted: IconAlertTriangle,
  cancelled: IconBan,
  expired: IconHourglassEmpty,
};

interface Props {
  readonly status: string;
  readonly late?: boolean;
  readonly size?: "normal" | "large";
}

export function StatusBadge({ status, late = false, size = "normal" }: Props) {
  const { word, tone } = meaningOf(status);
  const Icon = ICONS[status] ?? IconQuestionMark;
  return (
    <span className={classes.badge} data-tone={tone} data-size={size}>
      <Icon
        className={status === "processing" ? classes.turning : undefined}
        size={size === "large" ? 16 : 13}
        stroke={2.4}
        aria-hidden
      />
      {word}
      {late && <span className={classes.late}>late</span>}
    </span>
  );
}
