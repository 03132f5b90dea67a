/** The pages a portal has: the sidebar, the tab bar, the palette and the keys all read this. */
import { IconArrowsExchange, IconLayoutDashboard } from "@tabler/icons-react";
import type { Audience } from "../../api/model";

export type PagePath =
  | "/client/dashboard"
  | "/client/transactions"
  | "/admin/dashboard"
  | "/admin/transactions";

export interface NavigationEntry {
  readonly label: string;
  readonly to: PagePath;
  readonly icon: typeof IconArrowsExchange;
  /** Pressed after `g`. */
  readonly key: string;
}

export const NAVIGATION: Record<Audience, readonly NavigationEntry[]> = {
  client: [
    { label: "Home", to: "/client/dashboard", icon: IconLayoutDashboard, key: "d" },
    { label: "Payments", to: "/client/transactions", icon: IconArrowsExchange, key: "t" },
  ],
  admin: [
    { label: "Overview", to: "/admin/dashboard", icon: IconLayoutDashboard, key: "d" },
    { label: "Payments", to: "/admin/transactions", icon: IconArrowsExchange, key: "t" },
  ],
};

export const DASHBOARD = { client: "/client/dashboard", admin: "/admin/dashboard" } as const;
export const TRANSACTIONS = {
  client: "/client/transactions",
  admin: "/admin/transactions",
} as const;
export const PAYMENT = {
  client: "/client/transactions/$id",
  admin: "/admin/transactions/$id",
} as const;
export const LOGIN = { client: "/client/login", admin: "/admin/login" } as const;
