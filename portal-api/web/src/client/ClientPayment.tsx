/** ui-C4: one payment and its trace. */
import { getRouteApi } from "@tanstack/react-router";
import { PaymentPage } from "../components/trace/PaymentPage";

const route = getRouteApi("/client/transactions/$id");

export function ClientPayment() {
  const navigate = route.useNavigate();
  const { view = "timeline" } = route.useSearch();
  const onView = (next: typeof view) =>
    void navigate({
      search: next === "timeline" ? {} : { view: next },
      hash: true,
      replace: true,
      resetScroll: false,
    });
  return <PaymentPage id={route.useParams().id} view={view} onView={onView} />;
}
