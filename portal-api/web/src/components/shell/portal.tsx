/** Which portal a page stands in, who looks at it, and what of it: the same pages serve both. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { createContext, type ReactNode, useContext, useMemo } from "react";
import type { App, Audience, Mode, Session } from "../../api/model";

/** The part of the URL that every page of a portal keeps. */
export interface ScopeSearch {
  /** Absent means the mode in which there is something to see. */
  readonly mode?: Mode;
  /** Absent or `all` means every client the person may see. */
  readonly client_id?: string;
}

export function parseScope(raw: Record<string, unknown>): ScopeSearch {
  const scope: { mode?: Mode; client_id?: string } = {};
  if (raw.mode === "test" || raw.mode === "live") scope.mode = raw.mode;
  if (typeof raw.client_id === "string" && /^[\w-]{1,64}$/.test(raw.client_id)) {
    scope.client_id = raw.client_id;
  }
  return scope;
}

export interface Portal {
  readonly audience: Audience;
  readonly session: Session;
  readonly mode: Mode;
  readonly clientId: string | undefined;
  /** The apps in view: of the mode, and of the chosen client where one is chosen. */
  readonly apps: readonly App[];
  /** The currency all of them share, or null. */
  readonly currency: string | null;
  readonly setScope: (scope: { mode: Mode; clientId: string | undefined }) => void;
}

const PortalContext = createContext<Portal | null>(null);

export function usePortal(): Portal {
  const portal = useContext(PortalContext);
  if (!portal) throw new Error("this component belongs inside a portal");
  return portal;
}

interface Props {
  readonly audience: Audience;
  readonly session: Session;
  /** What an address without a mode means. */
  readonly firstMode: Mode;
  readonly children: ReactNode;
}

export function PortalProvider({ audience, session, firstMode, children }: Props) {
  const scope = parseScope(useSearch({ strict: false }));
  const navigate = useNavigate();
  const { mode = firstMode, client_id } = scope;
  const portal = useMemo((): Portal => {
    const clientId = session.apps.some((app) => app.client_id === client_id)
      ? client_id
      : undefined;
    const apps = session.apps.filter(
      (app) => app.mode === mode && (!clientId || app.client_id === clientId),
    );
    const [currency, another] = new Set(apps.map((app) => app.currency));
    return {
      audience,
      session,
      mode,
      clientId,
      apps,
      currency: currency && !another ? currency : null,
      setScope: (next) =>
        void navigate({
          to: ".",
          search: (before: object) => ({
            ...before,
            cursor: undefined, // a page of another list
            mode: next.mode,
            client_id: next.clientId ?? "all",
          }),
        }),
    };
  }, [audience, session, mode, client_id, navigate]);
  return <PortalContext value={portal}>{children}</PortalContext>;
}
