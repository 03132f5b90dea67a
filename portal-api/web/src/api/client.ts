/** The typed HTTP client of the portals: one place for the CSRF header and for failures. */
import createClient from "openapi-fetch";
import type { Sent } from "./model";
import { ProblemError } from "./problem";
import type { paths } from "./schema";

let csrfToken: string | null = null;

/** Remember the session's token; every request that changes something carries it. */
export function rememberCsrfToken(token: string | null): void {
  csrfToken = token;
}

export const api = createClient<paths>({
  baseUrl: "",
  credentials: "same-origin",
  headers: { Accept: "application/json" },
});

api.use({
  onRequest({ request }) {
    if (csrfToken && !["GET", "HEAD"].includes(request.method)) {
      request.headers.set("X-CSRF-Token", csrfToken);
    }
    return request;
  },
});

interface Answer<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly response: Response;
}

/** The body of a successful answer; raises ProblemError for every other one. */
export async function unwrap<T>(answer: Promise<Answer<T>>): Promise<Sent<T>> {
  const { data, error, response } = await answer;
  if (response.ok) return data as Sent<T>;
  const problem = typeof error === "object" && error !== null ? error : {};
  throw new ProblemError(response.status, problem);
}
