import type { Result } from './api'
import { useLocal, type T, type Word } from './i18n'
import { only, go } from './url'
import { share } from './numbers'

const known = ['invalid_request', 'unauthenticated', 'forbidden', 'not_found', 'too_large', 'limit_exceeded', 'budget_exceeded', 'rate_limited', 'provider_auth',
  'upstream_error', 'overloaded', 'bad_upstream', 'timeout', 'connect', 'stream_broken', 'canceled', 'internal']

// classWord says an error class in words.
export const classWord = (t: T, c: string) => known.includes(c) ? t(('class_' + c) as Word) : c

const most = 50

// Causes is what went wrong, the most frequent first.
export function Causes({ causes, requests }: { causes: Result; requests: number }) {
  const { t, f } = useLocal()
  const rows = causes.series, whole = causes.total[0] ?? 0
  return (
    <section class="card causes" aria-label={t('causes')}>
      <header><h2>{t('causes')}</h2><span class="note">{whole > 0 && t('errors_of', { failed: f.int(whole), n: f.int(requests) })}</span></header>
      {rows.length === 0 && <p class="nothing">{t('no_errors')}</p>}
      {rows.length > 0 && (
        <ol tabIndex={0}>
          {rows.slice(0, most).map(s => {
            const { code, error_class: c, model } = s.group
            const pick = () => go({ ...only('code', code), ...only('error_class', c), ...(model ? only('model', model) : {}), table: null, by: null, first: null, step: null }, '/requests')
            return (
              <li key={code + c + model}>
                <button onClick={pick} title={t('show_requests')}>
                  <i class={'dot c-' + code} /><span class="what">{c ? classWord(t, c) : code}<small>{model || t('no_model')}</small></span><b>{f.int(s.total[0])}</b>
                  <span class="meter"><i class={'c-' + code} style={{ width: 100 * (share(s.total[0], rows[0].total[0]) ?? 0) + '%' }} /></span>
                </button>
              </li>
            )
          })}
        </ol>
      )}
    </section>
  )
}
