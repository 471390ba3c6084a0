export type Theme = 'auto' | 'light' | 'dark'
const dark = matchMedia('(prefers-color-scheme: dark)')

export const theme = (): Theme => {
  const v = localStorage.getItem('theme')
  return v === 'light' || v === 'dark' ? v : 'auto'
}

// applyTheme sets what the style sheet looks at and tells the charts.
export function applyTheme(t: Theme = theme()) {
  if (t === 'auto') localStorage.removeItem('theme')
  else localStorage.setItem('theme', t)
  document.documentElement.dataset.theme = t === 'auto' ? dark.matches ? 'dark' : 'light' : t
  dispatchEvent(new Event('theme'))
}

dark.addEventListener('change', () => applyTheme())
