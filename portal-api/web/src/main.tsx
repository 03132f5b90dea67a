/** Entry of the portals: fonts and styles, the cache, the router. */
import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "@fontsource-variable/inter/index.css";
import "./theme/tokens.css";
import "./theme/base.css";
import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { setNonce } from "get-nonce";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { isProblem } from "./api/problem";
import { createQueryClient, sessionQuery } from "./api/queries";
import { createPortalRouter } from "./router";
import { theme, tokenVariables } from "./theme/theme";

/** The nonce that the server wrote into this page: the only styles the policy lets in carry it. */
function pageNonce(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? "";
}

// The scroll lock of dialogs (react-remove-scroll) adds a style of its own and asks here.
setNonce(pageNonce());

const queryClient = createQueryClient({
  onError: (error, key) => {
    // The session ended on the server: the router asks for it again and leads to the sign-in page.
    if (!isProblem(error, 401) || key === sessionQuery.queryKey[0]) return;
    queryClient.removeQueries(sessionQuery);
    void router.invalidate();
  },
});
const router = createPortalRouter(queryClient);

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root");
createRoot(root).render(
  <StrictMode>
    <MantineProvider
      theme={theme}
      cssVariablesResolver={tokenVariables}
      defaultColorScheme="auto"
      getStyleNonce={pageNonce}
    >
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>
      <Notifications position="bottom-right" limit={4} />
    </MantineProvider>
  </StrictMode>,
);
