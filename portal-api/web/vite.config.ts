// Build of the portals: everything as external files, so that the page needs no inline script.
import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

/** Where `npm run dev` sends what it doesn't serve itself; PORTAL_URL in the environment or .env. */
const portal = (mode: string) =>
  loadEnv(mode, ".", "PORTAL_").PORTAL_URL ?? "http://127.0.0.1:8080";

export default defineConfig(({ mode }) => ({
  plugins: [react()],
  // The server puts one fresh nonce in place of this word each time it serves index.html.
  html: { cspNonce: "__CSP_NONCE__" },
  build: {
    outDir: "dist",
    // Inlined assets would be data: URIs, which the page's policy refuses.
    assetsInlineLimit: 0,
    sourcemap: false,
  },
  server: { proxy: { "/bff": portal(mode), "/brand.css": portal(mode) } },
}));
