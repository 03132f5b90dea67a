/** The head of a page: its title, a line of context, its controls; it also names the tab. */
import { type ReactNode, useEffect } from "react";
import classes from "./Shell.module.css";

interface Props {
  readonly title: string;
  readonly note?: ReactNode;
  readonly children?: ReactNode;
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · MosPay`;
  }, [title]);
}

export function PageHead({ title, note, children }: Props) {
  useTitle(title);
  return (
    <div className={classes.pageHead}>
      <div>
        <h1>{title}</h1>
        {note && <p>{note}</p>}
      </div>
      {children && <div className={classes.pageActions}>{children}</div>}
    </div>
  );
}
