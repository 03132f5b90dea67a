/** ui-C3: the client portal's list of payments. */
import { getRouteApi } from "@tanstack/react-router";
import { TransactionsPage } from "../components/transactions/TransactionsPage";

const route = getRouteApi("/client/transactions");

export function ClientTransactions() {
  const navigate = route.useNavigate();
  return (
    <TransactionsPage
      search={route.useSearch()}
      onSearch={(search, replace = false) => void navigate({ search, replace })}
    />
  );
}
