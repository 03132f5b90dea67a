/** The sign-in page of both portals: attempts left, locked until, paste allowed. */
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useRouter } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import type { Audience } from "../../api/model";
import { sessionQuery, signIn } from "../../api/queries";
import { Logo } from "../shell/Logo";
import { DASHBOARD, LOGIN } from "../shell/navigation";
import { useTitle } from "../shell/PageHead";
import classes from "./LoginPage.module.css";
import { type Refusal, RefusalNote, refusalOf } from "./refusal";
import { Side } from "./Side";

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
      <Side />
      <main className={classes.main}>
        <form className={classes.form} onSubmit={(event) => void submit(event)}>
          <Logo />
          <h1 className={classes.title}>{words.title}</h1>
          <p className={classes.note}>{words.note}</p>
          {refusal && <RefusalNote refusal={refusal} />}
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
