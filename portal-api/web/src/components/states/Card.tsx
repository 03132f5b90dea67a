/** A card: the ground of every list and figure, with its own error boundary. */
import { Component, type ReactNode, useId } from "react";
import classes from "./Card.module.css";
import { FailureState } from "./states";

interface BoundaryState {
  readonly error: unknown;
}

/** Keeps a fault of one card in that card. */
class CardBoundary extends Component<{ readonly children: ReactNode }, BoundaryState> {
  override state: BoundaryState = { error: null };

  static getDerivedStateFromError(error: unknown): BoundaryState {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return <FailureState error={this.state.error} onRetry={() => this.setState({ error: null })} />;
  }
}

interface Props {
  readonly title?: ReactNode;
  /** A line under the title. */
  readonly note?: ReactNode;
  /** Controls at the right of the title. */
  readonly actions?: ReactNode;
  /** True where the content draws its own edges (tables). */
  readonly flush?: boolean;
  readonly className?: string;
  readonly children: ReactNode;
}

export function Card({ title, note, actions, flush = false, className, children }: Props) {
  const titleId = useId();
  return (
    <section
      className={`${classes.card} ${className ?? ""}`}
      aria-labelledby={title ? titleId : undefined}
    >
      {(title || actions) && (
        <header className={classes.head}>
          <div className={classes.titles}>
            {title && (
              <h2 id={titleId} className={classes.title}>
                {title}
              </h2>
            )}
            {note && <p className={classes.note}>{note}</p>}
          </div>
          {actions && <div className={classes.actions}>{actions}</div>}
        </header>
      )}
      <div className={flush ? classes.flush : classes.body}>
        <CardBoundary>{children}</CardBoundary>
      </div>
    </section>
  );
}
