/** What the portals read and the actions on the session, as TanStack Query options. */
import { keepPreviousData, QueryCache, QueryClient, queryOptions } from "@tanstack/react-query";
import { api, rememberCsrfToken, unwrap } from "./client";
import type { Audience, DashboardRange, Mode, Session } from "./model";
import { isTransient } from "./problem";

const SESSION_FRESH_MS = 5 * 60_000;

interface Failures {
  /** Told of every read that failed for good, with the first part of its key. */
  readonly onError: (error: unknown, key: unknown) => void;
}

/** The cache of one browser tab. */
export function createQueryClient({ onError }: Failures): QueryClient {
  return new QueryClient({
    queryCache: new QueryCache({ onError: (error, query) => onError(error, query.queryKey[0]) }),
    defaultOptions: {
      queries: {
        staleTime: 10_000,
        retry: (failures, error) => failures < 2 && isTransient(error),
        refetchOnWindowFocus: false, // the live stream refetches when the tab is shown again
      },
    },
  });
}

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async ({ signal }): Promise<Session> => {
    const session = await unwrap(api.GET("/bff/v1/session", { signal }));
    rememberCsrfToken(session.csrf_token);
    return session;
  },
  staleTime: SESSION_FRESH_MS,
});

/** How many payments a mode holds, up to one: whether there is anything to look at. */
async function hasPayments(mode: Mode): Promise<boolean> {
  const page = await unwrap(api.GET("/bff/v1/payments", { params: { query: { mode, limit: 1 } } }));
  return page.items.length > 0;
}

/**
 * The mode that an address without one opens: live, unless all there is so far is in test mode,
 * as on the first days of a new merchant.
 */
export const firstModeQuery = queryOptions({
  queryKey: ["first-mode"],
  queryFn: async (): Promise<Mode> => {
    try {
      const [live, test] = await Promise.all([hasPayments("live"), hasPayments("test")]);
      return test && !live ? "test" : "live";
    } catch {
      return "live"; // the page itself will say what is wrong
    }
  },
  staleTime: Number.POSITIVE_INFINITY,
});

export async function signIn(email: string, password: string, audience: Audience) {
  const session = await unwrap(
    api.POST("/bff/v1/session", { body: { email, password, audience } }),
  );
  rememberCsrfToken(session.csrf_token);
  return session;
}

export async function signOut(everywhere: boolean): Promise<void> {
  if (everywhere) await unwrap(api.POST("/bff/v1/session/revoke-all"));
  else await unwrap(api.DELETE("/bff/v1/session"));
  rememberCsrfToken(null);
}

export interface DashboardParams {
  readonly mode: Mode;
  readonly range: DashboardRange;
  readonly client_id?: string;
  readonly currency?: string;
}

export const dashboardQuery = (params: DashboardParams) =>
  queryOptions({
    queryKey: ["dashboard", params],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/bff/v1/dashboard", { params: { query: params }, signal })),
    placeholderData: keepPreviousData,
  });

export interface PaymentsParams {
  readonly mode: Mode;
  readonly client_id?: string;
  readonly status?: string;
  readonly service?: string;
  readonly from?: string;
  readonly to?: string;
  readonly min_minor?: number;
  readonly max_minor?: number;
  readonly q?: string;
  readonly sort?: string;
  readonly limit?: number;
  readonly cursor?: string;
}

export const paymentsQuery = (params: PaymentsParams) =>
  queryOptions({
    queryKey: ["payments", params],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/bff/v1/payments", { params: { query: params }, signal })),
    placeholderData: keepPreviousData,
  });

export const paymentQuery = (id: string) =>
  queryOptions({
    queryKey: ["payment", id],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/bff/v1/payments/{payment_id}", { params: { path: { payment_id: id } }, signal }),
      ),
  });

export const traceQuery = (id: string) =>
  queryOptions({
    queryKey: ["trace", id],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/bff/v1/payments/{payment_id}/trace", {
          params: { path: { payment_id: id } },
          signal,
        }),
      ),
  });
