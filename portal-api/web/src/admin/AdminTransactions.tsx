/** ui-A8: the admin portal's list of payments. */
import { getRouteApi } from "@tanstack/react-router";
import { TransactionsPage } from "../components/transactions/TransactionsPage";

const route = getRouteApi("/admin/transactions");

export function AdminTransactions() {
  const navigate = route.useNavigate();
  return (
    <TransactionsPage
      search={route.useSearch()}
      onSearch={(search, replace = false) => void navigate({ search, replace })}
    />
  );
}
