// Icons are 16 × 16 strokes.
const paths = {
  table: 'M2.5 3.500h11v9h-11zM2.5 6.500h11M2.5 9.500h11M6.500 6.500v6',
  chart: 'M2.500 13.500h11M4.500 11V8M8 11V4.500M11.500 11V6.500',
  sun: 'M8 5.200a2.800 2.800 0 1 0 0 5.600a2.800 2.800 0 1 0 0-5.600M8 1.500v1.300M8 13.200v1.300M1.500 8h1.300M13.200 8h1.300M3.400 3.400l.9.9M11.700 11.700l.9.9M12.600 3.400l-.9.9M4.300 11.700l-.9.9',
  moon: 'M13 9.600A5.500 5.500 0 1 1 6.400 3a4.400 4.400 0 0 0 6.600 6.600z',
  auto: 'M8 2.500a5.500 5.500 0 1 0 0 11a5.500 5.500 0 1 0 0-11M8 2.500v11M8 5l4-1M8 8h5.500M8 11l4 1',
  search: 'M7 2.500a4.500 4.500 0 1 0 0 9a4.500 4.500 0 1 0 0-9M10.300 10.300l3.200 3.200',
  pause: 'M5.500 3.500v9M10.500 3.500v9',
  play: 'M5 3.500l7.500 4.500L5 12.500z',
  plus: 'M8 3v10M3 8h10',
  edit: 'M10.500 3l2.500 2.500L6 12.500l-3 .5l.5-3z',
  rotate: 'M13 8a5 5 0 1 1-1.600-3.700M13 2v3h-3',
  bin: 'M3 4.500h10M6.500 4.500v-2h3v2M4.500 4.500l.6 9h5.800l.6-9',
  close: 'M4 4l8 8M12 4l-8 8',
  copy: 'M5.500 5.500h8v8h-8zM10.500 5.500v-3h-8v8h3',
  check: 'M3 8.500l3.500 3.500L13 4.500',
  out: 'M6.500 2.500h-4v11h4M10 5l3 3l-3 3M13 8H6',
  help: 'M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12M6.300 6.300a1.750 1.750 0 1 1 2.500 1.600c-.6.3-.8.6-.8 1.200M8 11.200v.2',
  clock: 'M8 2a6 6 0 1 0 0 12a6 6 0 1 0 0-12M8 4.800v3.400l2.300 1.400',
  more: 'M3.500 8h.01M8 8h.01M12.500 8h.01',
  warn: 'M8 2.500L14 13H2zM8 6.500v3M8 11.200v.2',
} as const

export const Icon = ({ name }: { name: keyof typeof paths }) => (
  <svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d={paths[name]} /></svg>
)

export const Logo = () => (
  <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><rect width="32" height="32" rx="8" fill="var(--brand)" /><g fill="none" stroke="#fff" stroke-width="2.4" stroke-linecap="round"><path d="M7 24V11M25 24V11M4.500 15h23M4.500 20.500h23" /><path d="M7 11c3-5 15-5 18 0" /></g></svg>
)
