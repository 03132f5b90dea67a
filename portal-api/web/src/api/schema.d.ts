/** Paths and bodies of portal-api's browser API, version 1, in the form openapi-typescript writes. */
export interface components {
  schemas: {
    Problem: {
      type: string;
      title: string;
      status: number;
      detail?: string | null;
      instance?: string | null;
      code: string;
      errors?: { field: string; code: string; message: string }[];
      request_id?: string | null;
      attempts_left?: number;
      locked_until?: string;
    };
    App: {
      client_id: string;
      client_name: string;
      company_name: string;
      app_id: string;
      mode: "live" | "test";
      currency: string;
    };
    Session: {
      user: {
        id: string;
        name: string;
        email: string;
        role: string;
        audience: "client" | "admin";
        company_id: string | null;
        client_id: string | null;
      };
      csrf_token: string;
      expires_at: string;
      apps: components["schemas"]["App"][];
    };
    PaymentRow: {
      id: string;
      client_id: string;
      client_name: string;
      app_id: string;
      mode: "live" | "test";
      service: string;
      route: string;
      status: string;
      amount_minor: number;
      currency: string;
      fee_minor: number | null;
      net_minor: number | null;
      reference: string;
      provider_reference: string | null;
      customer_id: string | null;
      product_name: string | null;
      reason_code: string | null;
      reason_message: string | null;
      late: boolean;
      accepted_at: string;
      updated_at: string;
      version: number;
    };
    PaymentDetail: components["schemas"]["PaymentRow"] & {
      metadata: { [key: string]: unknown } | null;
      attempts: {
        id: string;
        number: number;
        state: string;
        route: string;
        started_at: string | null;
        ended_at: string | null;
        http_status: number | null;
        result: string | null;
        reason: string | null;
      }[];
    };
    PaymentPage: {
      items: components["schemas"]["PaymentRow"][];
      next_cursor: string | null;
      summary: {
        count: number;
        count_is_exact: boolean;
        succeeded: number;
        volume_minor: number;
        currency: string | null;
      };
    };
    VolumePoint: {
      at: string;
      payments: number;
      succeeded: number;
      failed: number;
      unknown: number;
      volume_minor: number;
    };
    Dashboard: {
      as_of: string;
      mode: "live" | "test";
      range: "24h" | "7d" | "30d";
      granularity: "hour" | "day";
      time_zone: string;
      currency: string;
      currencies: string[];
      kpis: {
        payments_today: number;
        payments: number;
        succeeded: number;
        failed: number;
        unknown: number;
        processing: number;
        success_rate: number | null;
        volume_minor: number;
        fees_minor: number;
        net_minor: number;
        active_services: number;
        active_clients: number;
        api_calls_today: number;
        payments_growth: number | null;
        volume_growth: number | null;
      };
      volume: components["schemas"]["VolumePoint"][];
      recent: components["schemas"]["PaymentRow"][];
    };
    Hop: {
      id: string;
      service: string;
      kind: "http" | "message" | "provider_call" | "state" | "posting" | "delivery";
      name: string;
      event_id: string | null;
      causation_id: string | null;
      queue: string | null;
      attempt: number;
      max_attempts: number | null;
      next_at: string | null;
      published_at: string | null;
      received_at: string | null;
      handled_at: string | null;
      outcome: "ok" | "pending" | "retry" | "dead" | "failed" | "unknown";
      detail: string | null;
      data: { [key: string]: unknown } | null;
    };
    Trace: {
      payment: components["schemas"]["PaymentRow"];
      explanation: { headline: string; cause: string | null; next_action: string | null };
      as_of: string;
      hops: components["schemas"]["Hop"][];
      entries: {
        entry_id: string;
        kind: string;
        posted_at: string;
        currency: string;
        postings: { account: string; amount_minor: number }[];
      }[];
      deliveries: {
        delivery_id: string;
        endpoint_id: string;
        url: string;
        event_type: string;
        state: string;
        attempts: {
          number: number;
          at: string;
          status_code: number | null;
          error: string | null;
          duration_ms: number | null;
        }[];
        next_at: string | null;
      }[];
      missing: { service: string; what: string; since_seconds: number }[];
      unavailable: { service: string; detail: string | null }[];
    };
  };
}

type Json<T> = { content: { "application/json": T } };
type Failure = { content: { "application/problem+json": components["schemas"]["Problem"] } };
type None = { path?: never; query?: never; header?: never; cookie?: never };

export interface paths {
  "/bff/v1/session": {
    parameters: None;
    get: { parameters: None; responses: { 200: Json<components["schemas"]["Session"]>; default: Failure } };
    post: {
      parameters: None;
      requestBody: Json<{ email: string; password: string; audience: "client" | "admin" }>;
      responses: { 200: Json<components["schemas"]["Session"]>; default: Failure };
    };
    delete: { parameters: None; responses: { 204: { content?: never }; default: Failure } };
  };
  "/bff/v1/session/revoke-all": {
    parameters: None;
    post: { parameters: None; responses: { 204: { content?: never }; default: Failure } };
  };
  "/bff/v1/dashboard": {
    parameters: None;
    get: {
      parameters: {
        query: {
          mode: "live" | "test";
          range: "24h" | "7d" | "30d";
          client_id?: string;
          currency?: string;
        };
      };
      responses: { 200: Json<components["schemas"]["Dashboard"]>; default: Failure };
    };
  };
  "/bff/v1/payments": {
    parameters: None;
    get: {
      parameters: {
        query: {
          mode: "live" | "test";
          client_id?: string;
          status?: string;
          service?: string;
          from?: string;
          to?: string;
          min_minor?: number;
          max_minor?: number;
          q?: string;
          sort?: string;
          limit?: number;
          cursor?: string;
        };
      };
      responses: { 200: Json<components["schemas"]["PaymentPage"]>; default: Failure };
    };
  };
  "/bff/v1/payments/{id}": {
    parameters: None;
    get: {
      parameters: { path: { id: string } };
      responses: { 200: Json<components["schemas"]["PaymentDetail"]>; default: Failure };
    };
  };
  "/bff/v1/payments/{id}/trace": {
    parameters: None;
    get: {
      parameters: { path: { id: string } };
      responses: { 200: Json<components["schemas"]["Trace"]>; default: Failure };
    };
  };
}
