/** ui-A2: the admin portal's dashboard. */
import { getRouteApi } from "@tanstack/react-router";
import { DashboardPage } from "../components/dashboard/DashboardPage";

const route = getRouteApi("/admin/dashboard");

export function AdminDashboard() {
  const navigate = route.useNavigate();
  return (
    <DashboardPage
      search={route.useSearch()}
      onSearch={(patch) => void navigate({ search: (before) => ({ ...before, ...patch }) })}
    />
  );
}
