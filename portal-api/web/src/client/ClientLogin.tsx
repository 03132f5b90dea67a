/** ui-C1: sign in to the client portal. */
import { getRouteApi } from "@tanstack/react-router";
import { LoginPage } from "../components/login/LoginPage";

const route = getRouteApi("/client/login");

export function ClientLogin() {
  return <LoginPage audience="client" next={route.useSearch().next} />;
}
