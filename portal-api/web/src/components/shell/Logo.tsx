/** The product's mark and name. */
import classes from "./Shell.module.css";

export function Logo({ compact = false }: { readonly compact?: boolean }) {
  return (
    <span className={classes.logo}>
      <svg viewBox="0 0 32 32" width="28" height="28" role="img" aria-label="MosPay">
        <rect width="32" height="32" rx="8" className={classes.logoGround} />
        <path
          d="M7.5 22V11.2c0-.9 1.1-1.3 1.7-.6L16 18l6.8-7.4c.6-.7 1.7-.3 1.7.6V22"
          className={classes.logoLine}
        />
      </svg>
      {!compact && <span aria-hidden>MosPay</span>}
    </span>
  );
}
