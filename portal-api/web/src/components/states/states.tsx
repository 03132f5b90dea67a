/** The states every list and card has besides its content: loading, empty, failed, forbidden. */
import { Button } from "@mantine/core";
import { useTimeout } from "@mantine/hooks";
import { IconCloudOff, IconLock, IconMoodEmpty } from "@tabler/icons-react";
import type { UseQueryResult } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { ProblemError } from "../../api/problem";
import { formatClock } from "../time/time";
import classes from "./states.module.css";

const SKELETON_AFTER_MS = 150;

/** The skeleton of the real layout, but only for a wait that a person would notice. */
export function LoadingState({ children }: { readonly children: ReactNode }) {
  const [shown, setShown] = useState(false);
  useTimeout(() => setShown(true), SKELETON_AFTER_MS, { autoInvoke: true });
  return (
    <div aria-busy="true" className={classes.loading} data-shown={shown}>
      <span className={classes.hidden} role="status">
        Loading
      </span>
      <div aria-hidden>{children}</div>
    </div>
  );
}

interface EmptyProps {
  readonly title: string;
  readonly children?: ReactNode;
  readonly action?: ReactNode;
  readonly icon?: typeof IconMoodEmpty;
  /** True where this state is the whole page: then its title is the page's heading. */
  readonly page?: boolean;
}

export function EmptyState(props: EmptyProps) {
  const { title, children, action, icon: Icon = IconMoodEmpty, page = false } = props;
  const Title = page ? "h1" : "p";
  return (
    <div className={classes.state}>
      <span className={classes.icon}>
        <Icon size={22} stroke={1.6} aria-hidden />
      </span>
      <Title className={classes.title}>{title}</Title>
      {children && <div className={classes.text}>{children}</div>}
      {action && <div className={classes.action}>{action}</div>}
    </div>
  );
}

interface FailureProps {
  readonly error: unknown;
  readonly onRetry?: () => void;
}

function words(error: unknown): { title: string; detail: string | null; requestId: string | null } {
  if (error instanceof ProblemError) {
    return { title: error.message, detail: error.detail, requestId: error.requestId };
  }
  if (error instanceof TypeError) {
    return { title: "No answer from the server", detail: "Check the connection.", requestId: null };
  }
  return { title: "This part of the page failed", detail: null, requestId: null };
}

/** A failed card: what went wrong, the id to quote, and a way to try again. */
export function FailureState({ error, onRetry }: FailureProps) {
  if (error instanceof ProblemError && error.status === 403) {
    return (
      <EmptyState title="You don't have access to this" icon={IconLock}>
        {error.detail ?? "An administrator of your company can grant the permission."}
      </EmptyState>
    );
  }
  const { title, detail, requestId } = words(error);
  return (
    <div className={classes.state} role="alert">
      <span className={classes.icon} data-tone="failed">
        <IconCloudOff size={22} stroke={1.6} aria-hidden />
      </span>
      <p className={classes.title}>{title}</p>
      {detail && <p className={classes.text}>{detail}</p>}
      {requestId && (
        <p className={classes.request}>
          Request id <code>{requestId}</code>
        </p>
      )}
      {onRetry && (
        <Button className={classes.action} variant="default" size="sm" onClick={onRetry}>
          Retry
        </Button>
      )}
    </div>
  );
}

interface QueryProps<T> {
  readonly query: UseQueryResult<T>;
  readonly skeleton: ReactNode;
  readonly children: (data: T) => ReactNode;
}

/** A query's data, or the state that stands in for it; old data stays when a refresh fails. */
export function QueryState<T>({ query, skeleton, children }: QueryProps<T>) {
  const retry = () => void query.refetch();
  if (query.data === undefined) {
    if (query.error) return <FailureState error={query.error} onRetry={retry} />;
    return <LoadingState>{skeleton}</LoadingState>;
  }
  return (
    <>
      {query.error && (
        <div className={classes.notice} role="status">
          <span>
            Could not refresh: {words(query.error).title}. Data from{" "}
            {formatClock(query.dataUpdatedAt)}.
          </span>
          <Button variant="subtle" size="compact-xs" onClick={retry}>
            Retry
          </Button>
        </div>
      )}
      {children(query.data)}
    </>
  );
}
