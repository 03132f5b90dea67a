/** Live changes of a list of payments: rows are mended in place, new ones are only counted. */
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import type { PaymentChange, PaymentPage } from "../../api/model";
import { useLiveEvents } from "../live/LiveProvider";
import { splitList, type TransactionSearch } from "./filters";
import { bornAt } from "./ids";

/** The books that lists are read from hear of a payment moments after the live stream does. */
const ASK_AGAIN_MS = 700;
const ASK_AGAIN_TIMES = 8;

interface Options {
  readonly page: PaymentPage | undefined;
  readonly search: TransactionSearch;
  readonly scope: { readonly mode: string; readonly clientId: string | undefined };
  readonly paused: boolean;
}

/** True where a change is about a payment that this list would show. */
function belongs(change: PaymentChange, { search, scope }: Options): boolean {
  const statuses = splitList(search.status);
  const services = splitList(search.service);
  return (
    change.mode === scope.mode &&
    (!scope.clientId || change.client_id === scope.clientId) &&
    (!statuses.length || statuses.includes(change.status)) &&
    (!services.length || services.includes(change.service))
  );
}

/** The page with one payment's newer state, or the same page when it brings nothing new. */
export function mendRow(page: PaymentPage, change: PaymentChange): PaymentPage {
  const known = page.items.find((row) => row.id === change.id);
  if (!known || known.version >= change.version) return page;
  const { status, version, updated_at } = change;
  const items = page.items.map((row) =>
    row === known ? { ...row, status, version, updated_at } : row,
  );
  return { ...page, items };
}

/** Returns how many new payments wait to be shown, and the action that shows them. */
export function useLiveRows(options: Options): { waiting: number; show: () => Promise<void> } {
  const queryClient = useQueryClient();
  const fresh = useRef(new Set<string>());
  const [waiting, setWaiting] = useState(0);
  const newestAt = Date.parse(options.page?.items[0]?.accepted_at ?? "") || 0;
  const forget = useCallback(() => {
    fresh.current.clear();
    setWaiting(0);
  }, []);
  const showing = useRef(0);
  const listKey = JSON.stringify([options.search, options.scope]);
  useEffect(() => {
    showing.current += 1;
    forget();
    return () => {
      showing.current += 1;
    };
  }, [forget, listKey]);

  useLiveEvents((event) => {
    if (event.kind === "reset") {
      if (!options.paused) void queryClient.invalidateQueries({ queryKey: ["payments"] });
      return;
    }
    const change = event.payment;
    const shown = options.page?.items.some((row) => row.id === change.id) ?? false;
    if (shown) {
      if (options.paused) return;
      queryClient.setQueriesData<PaymentPage>({ queryKey: ["payments"] }, (page) =>
        page ? mendRow(page, change) : page,
      );
    } else if (belongs(change, options) && (bornAt(change.id) ?? Date.now()) > newestAt) {
      fresh.current.add(change.id);
      setWaiting(fresh.current.size);
    }
  });

  const show = useCallback(async () => {
    const newest = [...fresh.current].sort().at(-1) ?? "";
    const turn = ++showing.current;
    forget();
    for (let asked = 0; asked < ASK_AGAIN_TIMES && showing.current === turn; asked++) {
      await queryClient.invalidateQueries({ queryKey: ["payments"] });
      const pages = queryClient.getQueriesData<PaymentPage>({ queryKey: ["payments"] });
      if (pages.some(([, page]) => page?.items?.some((row) => row.id === newest))) return;
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
    }
  }, [forget, queryClient]);
  return { waiting, show };
}
