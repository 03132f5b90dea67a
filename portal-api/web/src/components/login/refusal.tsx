/** A refused sign-in in words: attempts left, locked until, no answer. */
import { IconAlertCircle, IconLock } from "@tabler/icons-react";
import { ProblemError } from "../../api/problem";
import { formatDateTime } from "../time/time";
import classes from "./LoginPage.module.css";

export interface Refusal {
  readonly title: string;
  readonly detail: string;
  readonly locked: boolean;
}

export function refusalOf(error: unknown): Refusal {
  if (!(error instanceof ProblemError)) {
    const detail = "Check the connection and try again.";
    return { title: "No answer from the server", detail, locked: false };
  }
  const { attempts_left, locked_until } = error.problem;
  if (error.status === 423) {
    const until = locked_until
      ? `Try again after ${formatDateTime(locked_until)}.`
      : "Try again later.";
    return {
      title: "This account is locked",
      detail: `Too many failed attempts. ${until}`,
      locked: true,
    };
  }
  if (error.code === "invalid_credentials") {
    const left =
      attempts_left === undefined
        ? ""
        : ` ${attempts_left === 1 ? "1 attempt" : `${attempts_left} attempts`} left before a pause.`;
    return {
      title: "Wrong email or password",
      detail: `Check both and try again.${left}`,
      locked: false,
    };
  }
  return { title: error.message, detail: error.detail ?? "Try again.", locked: false };
}

export function RefusalNote({ refusal }: { readonly refusal: Refusal }) {
  return (
    <div role="alert" className={classes.alert}>
      {refusal.locked ? (
        <IconLock size={18} stroke={1.9} aria-hidden />
      ) : (
        <IconAlertCircle size={18} stroke={1.9} aria-hidden />
      )}
      <div>
        <strong>{refusal.title}</strong>
        <p>{refusal.detail}</p>
      </div>
    </div>
  );
}
