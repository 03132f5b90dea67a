/** ui-C2: the client portal's dashboard. */
import { getRouteApi } from "@tanstack/react-router";
import { DashboardPage } from "../components/dashboard/DashboardPage";

const route = getRouteApi("/client/dashboard");

export function ClientDashboard() {
  const navigate = route.useNavigate();
  return (
    <DashboardPage
      search={route.useSearch()}
      onSearch={(patch) => void navigate({ search: (before) => ({ ...before, ...patch }) })}
    />
  );
}
