/** The sign-in page of both portals: attempts left, locked until, paste allowed. */
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { IconAlertCircle, IconLock } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useRouter } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import type { Audience } from "../../api/model";
import { ProblemError } from "../../api/problem";
import { sessionQuery, signIn } from "../../api/queries";
import { Logo } from "../shell/Logo";
import { DASHBOARD, LOGIN } from "../shell/navigation";
import { useTitle } from "../shell/PageHead";
import { formatDateTime } from "../time/time";
import classes from "./LoginPage.module.css";

const WORDS: Record<
  Audience,
  { title: string; note: string; other: string; otherAudience: Audience }
> = {
  client: {
    title: "Sign in to your account",
    note: "Payments, traces and settlements of your company.",
    other: "Operator? Sign in to the console",
    otherAudience: "admin",
  },
  admin: {
    title: "Operator console",
    note: "For the people who run this gateway.",
    other: "Merchant? Sign in to the client portal",
    otherAudience: "client",
  },
};

interface Refusal {
  readonly title: string;
  readonly detail: string;
  readonly locked: boolean;
}

function refusalOf(error: unknown): Refusal {
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

interface Props {
  readonly audience: Audience;
  readonly next: string | undefined;
}

export function LoginPage({ audience, next }: Props) {
  const words = WORDS[audience];
  const queryClient = useQueryClient();
  const router = useRouter();
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  useTitle(audience === "admin" ? "Operator sign-in" : "Sign in");

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(null);
    try {
      const session = await signIn(email.trim(), password, audience);
      queryClient.clear();
      queryClient.setQueryData(sessionQuery.queryKey, session);
      router.history.push(next ?? DASHBOARD[audience]);
    } catch (error) {
      setRefusal(refusalOf(error));
      setPassword("");
      setBusy(false);
    }
  };

  return (
    <div className={classes.page}>
      <aside className={classes.side} aria-hidden>
        <div className={classes.sideText}>
          <p className={classes.claim}>
            Every payment, followed from the first request to the last webhook.
          </p>
          <svg viewBox="0 0 360 190" className={classes.picture} aria-hidden>
            <g className={classes.tracks}>
              {[20, 58, 96, 134, 172].map((y) => (
                <line key={y} x1="0" x2="360" y1={y} y2={y} />
              ))}
            </g>
            <path
              className={classes.path}
              d="M0 20H70C90 20 90 58 110 58H160C180 58 180 96 200 96H250C270 96 270 134 290 134H300C320 134 320 172 340 172H360"
            />
            {[
              [70, 20],
              [160, 58],
              [250, 96],
              [300, 134],
            ].map(([x, y]) => (
              <circle key={y} className={classes.stop} cx={x} cy={y} r="6" />
            ))}
          </svg>
        </div>
      </aside>
      <main className={classes.main}>
        <form className={classes.form} onSubmit={(event) => void submit(event)}>
          <Logo />
          <h1 className={classes.title}>{words.title}</h1>
          <p className={classes.note}>{words.note}</p>
          {refusal && (
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
          )}
          <TextInput
            label="Email"
            type="email"
            name="email"
            autoComplete="username"
            required
            withAsterisk={false}
            size="md"
            value={email}
            onChange={(event) => setEmail(event.currentTarget.value)}
          />
          <PasswordInput
            label="Password"
            name="password"
            autoComplete="current-password"
            required
            withAsterisk={false}
            size="md"
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          <Button type="submit" size="md" fullWidth loading={busy} mt={4}>
            Sign in
          </Button>
          <p className={classes.other}>
            <Link to={LOGIN[words.otherAudience]}>{words.other}</Link>
          </p>
        </form>
      </main>
    </div>
  );
}
