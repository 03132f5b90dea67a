/** The switch of company and of live and test mode, and the banner that test mode shows. */
import { Menu, SegmentedControl } from "@mantine/core";
import { IconBuildingStore, IconCheck, IconSelector } from "@tabler/icons-react";
import type { Mode } from "../../api/model";
import { usePortal } from "./portal";
import classes from "./Shell.module.css";

export function ClientSwitch() {
  const { session, clientId, mode, setScope, audience } = usePortal();
  const clients = [...new Map(session.apps.map((app) => [app.client_id, app])).values()];
  const chosen =
    clients.find((app) => app.client_id === clientId) ??
    (clients.length === 1 ? clients[0] : undefined);
  const all = audience === "admin" ? "All clients" : (clients[0]?.company_name ?? "My company");
  const label = chosen?.client_name ?? all;
  if (clients.length <= 1) {
    return (
      <span className={classes.client}>
        <IconBuildingStore size={17} stroke={1.7} aria-hidden />
        <span className={classes.clientName}>{label}</span>
      </span>
    );
  }
  const entry = (id: string | undefined, name: string, company?: string) => (
    <Menu.Item
      key={id ?? "all"}
      onClick={() => setScope({ mode, clientId: id })}
      rightSection={id === clientId ? <IconCheck size={16} aria-label="chosen" /> : undefined}
    >
      {name}
      {company && <span className={classes.company}>{company}</span>}
    </Menu.Item>
  );
  return (
    <Menu position="bottom-start" width={260} shadow="md">
      <Menu.Target>
        <button type="button" className={classes.client} aria-label={`Client: ${label}. Change`}>
          <IconBuildingStore size={17} stroke={1.7} aria-hidden />
          <span className={classes.clientName}>{label}</span>
          <IconSelector size={15} stroke={1.7} aria-hidden />
        </button>
      </Menu.Target>
      <Menu.Dropdown className={classes.menuList}>
        {entry(undefined, all)}
        <Menu.Divider />
        {clients.map((app) => entry(app.client_id, app.client_name, app.company_name))}
      </Menu.Dropdown>
    </Menu>
  );
}

export function ModeSwitch() {
  const { mode, clientId, setScope } = usePortal();
  return (
    <SegmentedControl
      size="xs"
      aria-label="Mode"
      value={mode}
      onChange={(value) => setScope({ mode: value as Mode, clientId })}
      data={[
        { value: "live", label: "Live" },
        { value: "test", label: "Test" },
      ]}
    />
  );
}

export function TestBanner() {
  const { mode, clientId, setScope } = usePortal();
  if (mode !== "test") return null;
  return (
    <div className={classes.testBanner} role="status">
      <span>
        <strong>Test mode.</strong> These payments move no money.
      </span>
      <button
        type="button"
        className={classes.bannerAction}
        onClick={() => setScope({ mode: "live", clientId })}
      >
        Switch to live
      </button>
    </div>
  );
}
