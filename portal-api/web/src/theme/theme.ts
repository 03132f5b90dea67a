/** Mantine's theme, made from the tokens in `tokens.css`. */
import {
  type CSSVariablesResolver,
  createTheme,
  defaultVariantColorsResolver,
  type MantineColorsTuple,
  type VariantColorsResolver,
} from "@mantine/core";

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

const GRAY: MantineColorsTuple = [
  "#f7f8fa",
  "#f1f3f7",
  "#e7ebf0",
  "#dde2ea",
  "#bcc4d0",
  "#7f899b",
  "#5a6577",
  "#434e60",
  "#2d3748",
  "#1a2230",
];

const DARK: MantineColorsTuple = [
  "#e7ecf3",
  "#c3ccd9",
  "#9aa6b8",
  "#8592a5",
  "#37445a",
  "#2b3748",
  "#1d2633",
  "#161d28",
  "#0e131b",
  "#0a0e14",
];

/** Mantine picks white on the light primary of the dark scheme; our token is readable on it. */
const readableFilled: VariantColorsResolver = (input) => {
  const colors = defaultVariantColorsResolver(input);
  const primary = !input.color || input.color === "brand";
  return input.variant === "filled" && primary
    ? { ...colors, color: "var(--mp-on-primary)" }
    : colors;
};

const FONT =
  '"Inter Variable", -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

const DIALOG = {
  attributes: { header: { role: "presentation" } },
  closeButtonProps: { "aria-label": "Close" },
};

export const theme = createTheme({
  colors: { brand: BRAND, gray: GRAY, dark: DARK },
  variantColorResolver: readableFilled,
  primaryColor: "brand",
  primaryShade: { light: 6, dark: 3 },
  fontFamily: FONT,
  fontFamilyMonospace:
    'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
  headings: { fontFamily: FONT, fontWeight: "650" },
  fontSizes: { xs: "0.75rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.25rem" },
  defaultRadius: 8,
  cursorType: "pointer",
  respectReducedMotion: true,
  components: {
    Tooltip: { defaultProps: { openDelay: 300, withArrow: true } },
    // Their <header> would read as a second banner of the page.
    Modal: { defaultProps: { centered: true, radius: 12, ...DIALOG } },
    Drawer: { defaultProps: DIALOG },
    Checkbox: { defaultProps: { iconColor: "var(--mp-on-primary)" } },
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
