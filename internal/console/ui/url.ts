import { useEffect, useState } from 'preact/hooks'

// What is on the screen is written in the address: a link shows the same.

export interface Route { path: string; params: URLSearchParams }

const listeners = new Set<() => void>()
const read = (): Route => ({ path: location.pathname, params: new URLSearchParams(location.search) })
let current = read()
const changed = () => { current = read(); listeners.forEach(f => f()) }
addEventListener('popstate', changed)

export function useRoute(): Route {
  const [, again] = useState(0)
  useEffect(() => {
    const f = () => again(n => n + 1)
    listeners.add(f)
    return () => { listeners.delete(f) }
  }, [])
  return current
}

// go changes the address. A value of null or '' takes the parameter out.
export function go(patch: Record<string, string | string[] | null>, path = current.path, replace = false) {
  const p = new URLSearchParams(location.search)
  for (const [k, v] of Object.entries(patch)) {
    p.delete(k)
    for (const one of v === null ? [] : [v].flat()) if (one !== '') p.append(k, one)
  }
  const query = p.toString().replaceAll('%3A', ':').replaceAll('%2F', '/')
  history[replace ? 'replaceState' : 'pushState'](null, '', path + (query && '?' + query))
  changed()
}

// visit goes to another page and keeps what the pages share.
export const visit = (path: string, patch: Record<string, string | null> = {}) => go({ call: null, ...patch }, path)

export const dims = ['model', 'provider', 'key', 'code'] as const

// filterOf reads the filters of the address.
export function filterOf(p: URLSearchParams): Record<string, string[]> {
  const f: Record<string, string[]> = {}
  for (const d of dims) if (p.has(d)) f[d] = p.getAll(d)
  for (const t of p.getAll('tag')) {
    const i = t.search(/[:=]/)
    if (i > 0) (f['tag:' + t.slice(0, i)] ??= []).push(t.slice(i + 1))
  }
  return f
}
