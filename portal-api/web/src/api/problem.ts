/** An answer that was not a success, as one error class (RFC 9457 problem documents). */
import type { Problem } from "./model";

export class ProblemError extends Error {
  readonly status: number;
  readonly code: string;
  readonly detail: string | null;
  readonly requestId: string | null;
  readonly problem: Partial<Problem>;

  constructor(status: number, problem: Partial<Problem>) {
    super(problem.title ?? "The request could not be completed");
    this.name = "ProblemError";
    this.status = status;
    this.code = problem.code ?? "unexpected_answer";
    this.detail = problem.detail ?? null;
    this.requestId = problem.request_id ?? null;
    this.problem = problem;
  }
}

/** True where trying the same request again can help: no answer at all, or a server-side fault. */
export function isTransient(error: unknown): boolean {
  return !(error instanceof ProblemError) || error.status >= 500 || error.status === 429;
}

export function isProblem(error: unknown, status: number): error is ProblemError {
  return error instanceof ProblemError && error.status === status;
}
