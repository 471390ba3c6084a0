// The documented JSON API, and nothing else, is where every number comes from.

export interface Call {
  id: string; started_at: string; origin: string; key: string; team: string; user: string; session: string
  tags: Record<string, string>; ingress: string; model_requested: string; provider: string; model: string
  response_model: string; stream: boolean; status: 'success' | 'error' | 'canceled'; http_status: number
  error: { class: string; code: string; message: string }
  attempts: Attempt[]
  latency_ms: number; ttft_ms: number; overhead_us: number
  finish_reason: string; native_finish_reason: string; response_id: string
  usage: Usage; cost_nano_usd: number | null; price_row: string; quality: Record<string, string>
}

export interface Attempt {
  provider: string; provider_key: string; model: string; http_status: number; error_class: string
  latency_ms: number; cost_nano_usd: number | null
}

export interface Usage {
  source: string; input_tokens: number; output_tokens: number; cache_read_tokens: number; cache_write_5m_tokens: number
  cache_write_1h_tokens: number; reasoning_tokens: number; audio_input_tokens: number; audio_output_tokens: number
  server_tool_calls: Record<string, number>; tier?: string
}

export interface Arithmetic {
  source: 'catalogue' | 'provider' | 'none' | 'unknown'; row: string
  lines: { model: string; kind: string; quantity: number; rate_usd: number; per: number; amount_nano_usd: string }[]
  earlier_attempts_nano_usd: number; computed_nano_usd: number | null; cost_nano_usd: number | null
}

export interface Me { signed_in: boolean; key: string; admin: boolean; zone: string; version: string; demo: boolean; demo_key: string; example_model: string }

export interface Key {
  name: string; source: 'config' | 'runtime'; state: 'active' | 'expired' | 'revoked'; metrics: boolean; last4: string; team: string; models: string[]
  limits: Record<'rpm' | 'tpm' | 'input_tpm' | 'output_tpm' | 'concurrent', number | null>; budget: string[]; metadata: Record<string, string>
  expires_at: string | null; created_at: string | null; rotated_at: string | null; grace_until: string | null; revoked_at: string | null
}

export interface Keys { keys: Key[]; next: string; total: number }

export interface MadeKey { key: Key; secret: string }

interface Used { from: string; requests: number; input_tokens: number; output_tokens: number; cost_nano_usd: number; unpriced: number }

export interface KeyUsage extends Pick<Key, 'team' | 'state' | 'models' | 'expires_at' | 'limits' | 'budget'> { key: string; timezone: string; today: Used; month: Used }

export interface Rate { limit: number; used: number }

export interface Budget {
  amount_nano_usd: number; period: 'day' | 'week' | 'month' | 'total'; from?: string; to?: string
  spent_nano_usd: number; reserved_nano_usd: number; exhausted_at?: string
}

export interface Rule {
  rule: string; key?: string; team?: string; model_requested?: string; provider?: string; model?: string
  requests: Rate; tokens: Rate; input_tokens: Rate; output_tokens: Rate; concurrent: Rate
  budgets: Budget[]; refused: number; over_tokens: number; over_nano_usd: number
}

export interface Deployment {
  provider: string; provider_key: string; model: string; in_flight: number; state: 'closed' | 'half_open' | 'open' | ''
  ttft_ms: number; latency_ms: number; cool_until?: string; limits: Room[]
}

export interface Room { kind: 'requests' | 'tokens' | 'input_tokens' | 'output_tokens'; limit: number; remaining: number; full_at?: string }

export interface Limits {
  rules: Rule[]; providers: Deployment[]
  forecasts: { key: string; model: string; answers: number; p50: number; p95: number }[]
  events: { at: string; rule: string; period: Budget['period']; percent: number; spent_nano_usd: number; amount_nano_usd: number }[]
}

export interface Page { calls: Call[]; next: string }

export interface Body { request: string; response: string; request_cut: boolean; response_cut: boolean }

export interface Query { from: string; to: string; step?: string; group_by?: string[]; filter?: Record<string, string[]>; measures: string[] }

export type Values = (number | null)[]

export interface Result { series: { group: Record<string, string>; points: [number, ...Values][]; total: Values }[]; total: Values }

export interface LiveEvent { at: string; gap: boolean; calls: Call[]; skipped: number; in_flight: number; pending: number; lost: number; deltas: { requests: number }[] }

// Failure is an answer that is not 2xx; status 0 means that none came.
export class Failure extends Error {
  constructor(public status: number, public code: string, message: string) { super(message) }

  // passing failures may be gone when asked again.
  get passing() { return this.status === 0 || this.status >= 500 || this.status === 429 }
}

let leave = () => {}
export const onSignedOut = (f: () => void) => { leave = f }
export const signedOut = () => leave()

export async function request<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let res: Response
  try {
    res = await fetch(path, {
      method, signal, credentials: 'same-origin',
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
  } catch (e) {
    if (signal?.aborted) throw e
    throw new Failure(0, 'offline', String(e))
  }
  if (res.status === 204) return undefined as T
  const text = await res.text()
  let value: any
  try { value = JSON.parse(text) } catch { throw new Failure(res.ok ? 502 : res.status, 'not_json', text.slice(0, 200)) }
  if (!res.ok) {
    if (res.status === 401 && path !== '/api/v1/session') signedOut()
    throw new Failure(res.status, value?.error?.code ?? '', value?.error?.message ?? res.statusText)
  }
  return value
}

export const get = <T,>(path: string, signal?: AbortSignal) => request<T>('GET', path, undefined, signal)
export const query = (q: Query, signal?: AbortSignal) => request<Result>('POST', '/api/v1/query', q, signal)

// code is the coarse outcome of a Call, as the API's dimension of that name.
export function code(c: Call): string {
  if (c.status === 'canceled') return 'canceled'
  if (c.http_status === 429) return '429'
  if (c.http_status >= 400 && c.http_status < 500) return '4xx'
  if (c.http_status >= 500 || c.status === 'error') return '5xx'
  return '2xx'
}
