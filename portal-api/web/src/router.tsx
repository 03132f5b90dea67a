/** The tree of pages of both portals; each page is its own script, fetched when it is opened. */
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
  retainSearchParams,
} from "@tanstack/react-router";
import type { Audience } from "./api/model";
import { isProblem } from "./api/problem";
import { firstModeQuery, sessionQuery } from "./api/queries";
import { parseDashboardSearch } from "./components/dashboard/search";
import { NotFound, PageFailure, Waiting } from "./components/shell/fallbacks";
import { DASHBOARD, LOGIN } from "./components/shell/navigation";
import { PortalFrame } from "./components/shell/PortalFrame";
import { parseScope, type ScopeSearch } from "./components/shell/portal";
import { parseTraceSearch } from "./components/trace/search";
import { parseTransactionSearch } from "./components/transactions/filters";

interface RouterContext {
  readonly queryClient: QueryClient;
}

const root = createRootRouteWithContext<RouterContext>()({
  component: Outlet,
  notFoundComponent: () => <NotFound />,
});

const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/client/dashboard" });
  },
});

/** Only a path of ours is followed after signing in. */
const parseLogin = (raw: Record<string, unknown>): { readonly next?: string } =>
  typeof raw.next === "string" && /^\/(client|admin)\//.test(raw.next) ? { next: raw.next } : {};

/** The session and the mode to begin with, or the way to the sign-in page and back. */
async function requireSession(
  queryClient: QueryClient,
  audience: Audience,
  { href, search }: { readonly href: string; readonly search: ScopeSearch },
) {
  try {
    const session = await queryClient.ensureQueryData(sessionQuery);
    const firstMode =
      session.user.audience === audience && !search.mode
        ? await queryClient.ensureQueryData(firstModeQuery)
        : (search.mode ?? "live");
    return { session, firstMode };
  } catch (error) {
    if (isProblem(error, 401)) throw redirect({ to: LOGIN[audience], search: { next: href } });
    throw error;
  }
}

/** Who is signed in already has no business on the sign-in page. */
async function skipWhenSignedIn(queryClient: QueryClient, audience: Audience) {
  const session = await queryClient.ensureQueryData(sessionQuery).catch(() => null);
  if (session?.user.audience === audience) throw redirect({ to: DASHBOARD[audience] });
}

const keepScope = {
  middlewares: [retainSearchParams<ScopeSearch>(["mode", "client_id"])],
};

const clientLogin = createRoute({
  getParentRoute: () => root,
  path: "/client/login",
  beforeLoad: ({ context }) => skipWhenSignedIn(context.queryClient, "client"),
  validateSearch: parseLogin,
  component: lazyRouteComponent(() => import("./client/ClientLogin"), "ClientLogin"),
});

const client = createRoute({
  getParentRoute: () => root,
  path: "/client",
  validateSearch: parseScope,
  search: keepScope,
  beforeLoad: ({ context, location }) => requireSession(context.queryClient, "client", location),
  component: () => <PortalFrame audience="client" />,
  errorComponent: PageFailure,
  notFoundComponent: () => <NotFound audience="client" />,
});

const clientPages = [
  createRoute({
    getParentRoute: () => client,
    path: "/",
    beforeLoad: () => {
      throw redirect({ to: "/client/dashboard" });
    },
  }),
  createRoute({
    getParentRoute: () => client,
    path: "/dashboard",
    validateSearch: parseDashboardSearch,
    component: lazyRouteComponent(() => import("./client/ClientDashboard"), "ClientDashboard"),
  }),
  createRoute({
    getParentRoute: () => client,
    path: "/transactions",
    validateSearch: parseTransactionSearch,
    component: lazyRouteComponent(
      () => import("./client/ClientTransactions"),
      "ClientTransactions",
    ),
  }),
  createRoute({
    getParentRoute: () => client,
    path: "/transactions/$id",
    validateSearch: parseTraceSearch,
    component: lazyRouteComponent(() => import("./client/ClientPayment"), "ClientPayment"),
  }),
] as const;

const adminLogin = createRoute({
  getParentRoute: () => root,
  path: "/admin/login",
  beforeLoad: ({ context }) => skipWhenSignedIn(context.queryClient, "admin"),
  validateSearch: parseLogin,
  component: lazyRouteComponent(() => import("./admin/AdminLogin"), "AdminLogin"),
});

const admin = createRoute({
  getParentRoute: () => root,
  path: "/admin",
  validateSearch: parseScope,
  search: keepScope,
  beforeLoad: ({ context, location }) => requireSession(context.queryClient, "admin", location),
  component: () => <PortalFrame audience="admin" />,
  errorComponent: PageFailure,
  notFoundComponent: () => <NotFound audience="admin" />,
});

const adminPages = [
  createRoute({
    getParentRoute: () => admin,
    path: "/",
    beforeLoad: () => {
      throw redirect({ to: "/admin/dashboard" });
    },
  }),
  createRoute({
    getParentRoute: () => admin,
    path: "/dashboard",
    validateSearch: parseDashboardSearch,
    component: lazyRouteComponent(() => import("./admin/AdminDashboard"), "AdminDashboard"),
  }),
  createRoute({
    getParentRoute: () => admin,
    path: "/transactions",
    validateSearch: parseTransactionSearch,
    component: lazyRouteComponent(() => import("./admin/AdminTransactions"), "AdminTransactions"),
  }),
  createRoute({
    getParentRoute: () => admin,
    path: "/transactions/$id",
    validateSearch: parseTraceSearch,
    component: lazyRouteComponent(() => import("./admin/AdminPayment"), "AdminPayment"),
  }),
] as const;

const tree = root.addChildren([
  home,
  clientLogin,
  client.addChildren(clientPages),
  adminLogin,
  admin.addChildren(adminPages),
]);

/** Search values are plain text in the URL (`?status=failed,unknown`), never JSON. */
const stringifySearch = (search: Record<string, unknown>): string => {
  const pairs = Object.entries(search).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(pairs.map(([key, value]) => [key, String(value)])).toString();
  return text && `?${text.replaceAll("%2C", ",")}`;
};

export function createPortalRouter(queryClient: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { queryClient },
    defaultPreload: "intent",
    defaultPreloadStaleTime: 0,
    scrollRestoration: true,
    defaultPendingComponent: () => <Waiting />,
    defaultPendingMs: 250,
    parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
    stringifySearch,
    defaultErrorComponent: PageFailure,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createPortalRouter>;
  }
}
