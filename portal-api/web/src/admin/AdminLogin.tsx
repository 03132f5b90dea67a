/** ui-A1: sign in to the operator console. */
import { getRouteApi } from "@tanstack/react-router";
import { LoginPage } from "../components/login/LoginPage";

const route = getRouteApi("/admin/login");

export function AdminLogin() {
  return <LoginPage audience="admin" next={route.useSearch().next} />;
}
