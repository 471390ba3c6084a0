import { useEffect, useState } from 'preact/hooks'

// What is on the screen is written in the address: a link shows the same.

export interface Route { path: string; params: URLSearchParams }

const listeners = new Set<() => void>()
const read = (): Route => ({ path: location.pathname, params: new URLSearchParams(location.search) })
let current = read()
const changed = () => { current = read(); refresh() }
addEventListener('popstate', changed)

// refresh draws everything that depends on the address again.
export const refresh = () => listeners.forEach(f => f())

export function useRoute(): Route {
  const [, again] = useState(0)
  useEffect(() => {
    const f = () => again(n => n + 1)
    listeners.add(f)
    return () => { listeners.delete(f) }
  }, [])
  return current
}

export type Patch = Record<string, string | string[] | null>

// link is the address after a patch. A value of null or '' takes the parameter
// out.
export function link(patch: Patch, path = current.path): string {
  const p = new URLSearchParams(location.search)
  for (const [k, v] of Object.entries(patch)) {
    p.delete(k)
    for (const one of v === null ? [] : [v].flat()) if (one !== '') p.append(k, one)
  }
  const query = p.toString().replaceAll('%3A', ':').replaceAll('%2F', '/')
  return path + (query && '?' + query)
}

// go changes the address.
export function go(patch: Patch, path = current.path, replace = false) {
  const to = link(patch, path)
  if (to === location.pathname + location.search) return
  history[replace ? 'replaceState' : 'pushState'](null, '', to)
  changed()
}

// Of the pages' own parameters, only those that both know are taken along.
const own = { call: null, by: null, table: null, first: null, step: null, find: null, state: null }

// visit goes to another page and keeps what the pages share.
export const visit = (path: string, patch: Patch = {}) => go({ ...own, ...patch }, path)
export const visiting = (path: string) => link(own, path)

// dims are the dimensions that pages filter by; code is the coarse outcome.
export const dims = ['model', 'provider', 'key', 'code', 'error_class', 'team', 'user', 'session'] as const
export type Dim = typeof dims[number]

export type Filter = Record<string, string[]>

// filterOf reads the filters of the address.
export function filterOf(p: URLSearchParams): Filter {
  const f: Filter = {}
  for (const d of dims) if (p.has(d)) f[d] = p.getAll(d)
  for (const t of p.getAll('tag')) {
    const i = t.search(/[:=]/)
    if (i > 0) (f['tag:' + t.slice(0, i)] ??= []).push(t.slice(i + 1))
  }
  return f
}

// only is the patch that filters by one value of a dimension or a tag.
export function only(dim: string, value: string): Patch {
  if (!dim.startsWith('tag:')) return { [dim]: value }
  const name = dim.slice(4), others = current.params.getAll('tag').filter(t => t.split(/[:=]/)[0] !== name)
  return { tag: [...others, name + ':' + value] }
}

export const noFilter: Patch = { ...Object.fromEntries(dims.map(d => [d, null])), tag: null, q: null }
