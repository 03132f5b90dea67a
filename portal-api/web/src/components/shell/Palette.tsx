/** The Ctrl-K palette: jump to a page, a payment, another client or mode. */
import { useMantineColorScheme } from "@mantine/core";
import { createSpotlight, Spotlight, type SpotlightActionData } from "@mantine/spotlight";
import "@mantine/spotlight/styles.css";
import {
  IconArrowsExchange,
  IconBuildingStore,
  IconFlask,
  IconKeyboard,
  IconLogout,
  IconMoon,
  IconSearch,
} from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { NAVIGATION, PAYMENT, TRANSACTIONS } from "./navigation";
import { usePortal } from "./portal";

const [paletteStore, palette] = createSpotlight();
const PAYMENT_ID = /^pay_[0-9a-z]{8,64}$/i;

interface Props {
  /** Grows by one each time the palette is asked for. */
  readonly asked: number;
  readonly onShortcuts: () => void;
  readonly onSignOut: () => void;
}

const icon = (Icon: typeof IconSearch) => <Icon size={18} stroke={1.6} aria-hidden />;

/** What the typed words themselves lead to: one payment, or a search for them. */
function useFound(wanted: string): SpotlightActionData[] {
  const { audience } = usePortal();
  const navigate = useNavigate();
  if (!wanted) return [];
  if (PAYMENT_ID.test(wanted)) {
    return [
      {
        id: "payment",
        label: `Open payment ${wanted}`,
        keywords: wanted,
        leftSection: icon(IconArrowsExchange),
        onClick: () => void navigate({ to: PAYMENT[audience], params: { id: wanted } }),
      },
    ];
  }
  return [
    {
      id: "search",
      label: `Search payments for “${wanted}”`,
      keywords: wanted,
      leftSection: icon(IconSearch),
      onClick: () => void navigate({ to: TRANSACTIONS[audience], search: { q: wanted } }),
    },
  ];
}

function usePages(): SpotlightActionData[] {
  const { audience } = usePortal();
  const navigate = useNavigate();
  return NAVIGATION[audience].map(({ label, to, icon: Icon, key }) => ({
    id: to,
    label: `Go to ${label}`,
    leftSection: icon(Icon),
    rightSection: <kbd>g {key}</kbd>,
    onClick: () => void navigate({ to }),
  }));
}

function useClients(): SpotlightActionData[] {
  const { session, mode, setScope } = usePortal();
  return [...new Map(session.apps.map((app) => [app.client_id, app])).values()].map((app) => ({
    id: app.client_id,
    label: app.client_name,
    description: app.company_name,
    leftSection: icon(IconBuildingStore),
    onClick: () => setScope({ mode, clientId: app.client_id }),
  }));
}

function useActions({ onShortcuts, onSignOut }: Props): SpotlightActionData[] {
  const { mode, clientId, setScope } = usePortal();
  const { toggleColorScheme } = useMantineColorScheme();
  const otherMode = mode === "live" ? "test" : "live";
  return [
    {
      id: "mode",
      label: `Switch to ${otherMode} mode`,
      leftSection: icon(IconFlask),
      onClick: () => setScope({ mode: otherMode, clientId }),
    },
    {
      id: "theme",
      label: "Switch between light and dark",
      keywords: "theme colour",
      leftSection: icon(IconMoon),
      onClick: () => toggleColorScheme(),
    },
    {
      id: "keys",
      label: "Keyboard shortcuts",
      leftSection: icon(IconKeyboard),
      onClick: onShortcuts,
    },
    { id: "out", label: "Sign out", leftSection: icon(IconLogout), onClick: onSignOut },
  ];
}

export default function Palette(props: Props) {
  const [query, setQuery] = useState("");
  const { asked } = props;
  useEffect(() => {
    if (asked > 0) palette.open();
  }, [asked]);
  const found = useFound(query.trim());
  const pages = usePages();
  const clients = useClients();
  const actions = useActions(props);
  return (
    <Spotlight
      store={paletteStore}
      query={query}
      onQueryChange={setQuery}
      shortcut={null}
      attributes={{ content: { "aria-label": "Search or jump" } }}
      limit={8}
      scrollable
      maxHeight={420}
      nothingFound="Nothing found"
      searchProps={{
        placeholder: "Search payments or jump to…",
        "aria-label": "Search payments or jump to a page",
        leftSection: icon(IconSearch),
      }}
      actions={[
        ...found,
        { group: "Pages", actions: pages },
        ...(clients.length > 1 ? [{ group: "Clients", actions: clients }] : []),
        { group: "Actions", actions },
      ]}
    />
  );
}
