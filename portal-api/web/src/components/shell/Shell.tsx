/** The frame of every page of a portal: sidebar, top bar, phone tab bar, palette, shortcuts. */
import {
  ActionIcon,
  Menu,
  Tooltip,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useHotkeys, useLocalStorage } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import {
  IconDevicesX,
  IconKeyboard,
  IconLayoutSidebarLeftCollapse,
  IconLayoutSidebarLeftExpand,
  IconLogout,
  IconMoon,
  IconSearch,
  IconSun,
  IconUserCircle,
} from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense, useState } from "react";
import { signOut } from "../../api/queries";
import { LiveIndicator, StaleBanner } from "../live/LiveIndicator";
import { Logo } from "./Logo";
import { LOGIN, NAVIGATION, TRANSACTIONS } from "./navigation";
import { usePortal } from "./portal";
import { ClientSwitch, ModeSwitch, TestBanner } from "./ScopeSwitch";
import classes from "./Shell.module.css";
import { ShortcutSheet } from "./ShortcutSheet";
import { useShortcuts } from "./useShortcuts";

const Palette = lazy(() => import("./Palette"));

function useSignOut() {
  const { audience } = usePortal();
  const queryClient = useQueryClient();
  const navigate = useNavigate();
  return async (everywhere: boolean) => {
    try {
      await signOut(everywhere);
    } catch {
      notifications.show({ color: "red", title: "Could not sign out", message: "Try again." });
      return;
    }
    queryClient.clear();
    await navigate({ to: LOGIN[audience] });
    notifications.show({ message: everywhere ? "Signed out on every device." : "Signed out." });
  };
}

function ThemeSwitch() {
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light");
  const other = scheme === "dark" ? "light" : "dark";
  return (
    <Tooltip label={`Switch to ${other}`}>
      <ActionIcon
        variant="subtle"
        color="gray"
        size={36}
        className={classes.quiet}
        aria-label={`Switch to ${other} theme`}
        onClick={() => setColorScheme(other)}
      >
        {scheme === "dark" ? (
          <IconSun size={19} stroke={1.7} />
        ) : (
          <IconMoon size={19} stroke={1.7} />
        )}
      </ActionIcon>
    </Tooltip>
  );
}

interface AccountProps {
  readonly onShortcuts: () => void;
  readonly onSignOut: (everywhere: boolean) => void;
}

function AccountMenu({ onShortcuts, onSignOut }: AccountProps) {
  const { user } = usePortal().session;
  return (
    <Menu position="bottom-end" width={240} shadow="md">
      <Menu.Target>
        <ActionIcon
          variant="subtle"
          color="gray"
          size={36}
          className={classes.quiet}
          aria-label="Account"
        >
          <IconUserCircle size={22} stroke={1.6} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <div className={classes.person}>
          <strong>{user.name}</strong>
          <span>{user.email}</span>
        </div>
        <Menu.Divider />
        <Menu.Item leftSection={<IconKeyboard size={17} stroke={1.6} />} onClick={onShortcuts}>
          Keyboard shortcuts
        </Menu.Item>
        <Menu.Item
          leftSection={<IconDevicesX size={17} stroke={1.6} />}
          onClick={() => onSignOut(true)}
        >
          Sign out everywhere
        </Menu.Item>
        <Menu.Item
          leftSection={<IconLogout size={17} stroke={1.6} />}
          onClick={() => onSignOut(false)}
        >
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function Sidebar({
  collapsed,
  onToggle,
}: {
  readonly collapsed: boolean;
  readonly onToggle: () => void;
}) {
  const { audience } = usePortal();
  return (
    <aside className={classes.sidebar}>
      <div className={classes.brand}>
        <Logo compact={collapsed} />
        {!collapsed && audience === "admin" && <span className={classes.operator}>Operator</span>}
      </div>
      <nav aria-label="Main" className={classes.nav}>
        {NAVIGATION[audience].map(({ label, to, icon: Icon }) => (
          <Tooltip key={to} label={label} position="right" disabled={!collapsed}>
            <Link to={to} className={classes.navLink} aria-label={collapsed ? label : undefined}>
              <Icon size={19} stroke={1.7} aria-hidden />
              {!collapsed && <span>{label}</span>}
            </Link>
          </Tooltip>
        ))}
      </nav>
      <button
        type="button"
        className={classes.collapse}
        onClick={onToggle}
        aria-expanded={!collapsed}
      >
        {collapsed ? (
          <IconLayoutSidebarLeftExpand size={19} stroke={1.6} aria-label="Expand the sidebar" />
        ) : (
          <>
            <IconLayoutSidebarLeftCollapse size={19} stroke={1.6} aria-hidden />
            <span>Collapse</span>
          </>
        )}
      </button>
    </aside>
  );
}

function TabBar({ onSearch }: { readonly onSearch: () => void }) {
  const { audience } = usePortal();
  return (
    <nav aria-label="Main" className={classes.tabBar}>
      {NAVIGATION[audience].map(({ label, to, icon: Icon }) => (
        <Link key={to} to={to} className={classes.tab}>
          <Icon size={22} stroke={1.6} aria-hidden />
          {label}
        </Link>
      ))}
      <button type="button" className={classes.tab} onClick={onSearch}>
        <IconSearch size={22} stroke={1.6} aria-hidden />
        Search
      </button>
    </nav>
  );
}

export function Shell({ children }: { readonly children: ReactNode }) {
  const { audience } = usePortal();
  const navigate = useNavigate();
  const leave = useSignOut();
  const [collapsed, setCollapsed] = useLocalStorage({
    key: "mospay.sidebar.collapsed",
    defaultValue: false,
  });
  const [asked, setAsked] = useState(0);
  const [sheet, setSheet] = useState(false);
  const openPalette = () => setAsked((count) => count + 1);
  const openSheet = () => setSheet(true);
  useHotkeys([["mod+K", openPalette]], []);
  useShortcuts({
    "?": openSheet,
    "/": () => {
      const field = document.querySelector<HTMLInputElement>("[data-page-search]");
      if (field) field.focus();
      else void navigate({ to: TRANSACTIONS[audience], hash: "search" });
    },
    ...Object.fromEntries(
      NAVIGATION[audience].map(({ key, to }) => [`g ${key}`, () => void navigate({ to })]),
    ),
  });
  return (
    <div className={classes.shell} data-collapsed={collapsed}>
      <a href="#page" className={classes.skip}>
        Skip to content
      </a>
      <Sidebar collapsed={collapsed} onToggle={() => setCollapsed((before) => !before)} />
      <div className={classes.column}>
        <header className={classes.top}>
          <span className={classes.phoneLogo}>
            <Logo compact />
          </span>
          <ClientSwitch />
          <ModeSwitch />
          <button type="button" className={classes.search} onClick={openPalette}>
            <IconSearch size={16} stroke={1.8} aria-hidden />
            <span>Search or jump to…</span>
            <kbd>Ctrl K</kbd>
          </button>
          <span className={classes.topEnd}>
            <LiveIndicator />
            <ThemeSwitch />
            <AccountMenu
              onShortcuts={openSheet}
              onSignOut={(everywhere) => void leave(everywhere)}
            />
          </span>
        </header>
        <TestBanner />
        <StaleBanner />
        <main id="page" className={classes.page} tabIndex={-1}>
          {children}
        </main>
      </div>
      <TabBar onSearch={openPalette} />
      <ShortcutSheet opened={sheet} onClose={() => setSheet(false)} />
      {asked > 0 && (
        <Suspense fallback={null}>
          <Palette asked={asked} onShortcuts={openSheet} onSignOut={() => void leave(false)} />
        </Suspense>
      )}
    </div>
  );
}
