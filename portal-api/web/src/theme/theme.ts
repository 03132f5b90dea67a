/** Mantine's theme, made from the tokens in `tokens.css`. */
import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

const BRAND: MantineColorsTuple = [
  "#e8f0fd",
  "#d0e0fb",
  "#a3c6ff",
  "#7fb0ff",
  "#4f8ff2",
  "#2874e6",
  "#0b5cd5",
  "#094cb1",
  "#083f93",
  "#062f6e",
];

const FONT =
  '"Inter Variable", -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

export const theme = createTheme({
  colors: { brand: BRAND },
  primaryColor: "brand",
  primaryShade: { light: 6, dark: 3 },
  autoContrast: true,
  fontFamily: FONT,
  fontFamilyMonospace:
    'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  headings: { fontFamily: FONT, fontWeight: "650" },
  fontSizes: { xs: "0.75rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.25rem" },
  defaultRadius: 8,
  cursorType: "pointer",
  components: {
    Tooltip: { defaultProps: { openDelay: 300, withArrow: true } },
    Modal: { defaultProps: { centered: true, radius: 12 } },
    Skeleton: { defaultProps: { radius: 6 } },
  },
});

const TOKENS = {
  "--mantine-color-body": "var(--mp-bg)",
  "--mantine-color-text": "var(--mp-text)",
  "--mantine-color-dimmed": "var(--mp-muted)",
  "--mantine-color-placeholder": "var(--mp-muted)",
  "--mantine-color-default": "var(--mp-surface)",
  "--mantine-color-default-hover": "var(--mp-raised)",
  "--mantine-color-default-color": "var(--mp-text)",
  "--mantine-color-default-border": "var(--mp-control)",
  "--mantine-color-anchor": "var(--mp-primary)",
  "--mantine-color-error": "var(--mp-failed)",
  "--mantine-primary-color-filled": "var(--mp-primary)",
  "--mantine-primary-color-filled-hover": "var(--mp-primary-hover)",
  "--mantine-primary-color-contrast": "var(--mp-on-primary)",
  "--mantine-primary-color-light": "var(--mp-primary-soft)",
  "--mantine-primary-color-light-color": "var(--mp-primary)",
  "--mantine-color-brand-filled": "var(--mp-primary)",
  "--mantine-color-brand-filled-hover": "var(--mp-primary-hover)",
  "--mantine-color-brand-light": "var(--mp-primary-soft)",
  "--mantine-color-brand-light-color": "var(--mp-primary)",
};

/** Points Mantine's own variables at ours, so that one table of colours rules both schemes. */
export const tokenVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: TOKENS,
  dark: TOKENS,
});
