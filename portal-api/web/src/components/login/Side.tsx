/** The coloured half of the sign-in page: what the product does, in one line and one picture. */
import classes from "./LoginPage.module.css";

export function Side() {
  return (
    <aside className={classes.side} aria-hidden>
      <div className={classes.sideText}>
        <p className={classes.claim}>
          Every payment, followed from the first request to the last webhook.
        </p>
        <svg viewBox="0 0 360 190" className={classes.picture} aria-hidden>
          <g className={classes.tracks}>
            {[20, 58, 96, 134, 172].map((y) => (
              <line key={y} x1="0" x2="360" y1={y} y2={y} />
            ))}
          </g>
          <path
            className={classes.path}
            d="M0 20H70C90 20 90 58 110 58H160C180 58 180 96 200 96H250C270 96 270 134 290 134H300C320 134 320 172 340 172H360"
          />
          {[
            [70, 20],
            [160, 58],
            [250, 96],
            [300, 134],
          ].map(([x, y]) => (
            <circle key={y} className={classes.stop} cx={x} cy={y} r="6" />
          ))}
        </svg>
      </div>
    </aside>
  );
}
