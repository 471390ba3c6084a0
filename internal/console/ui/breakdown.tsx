import { useEffect, useState } from 'preact/hooks'
import { get, type Me, type Page } from './api'
import { Change } from './headline'
import { useLocal, type Word } from './i18n'
import { failuresIn, inSlice, share, type Slices } from './numbers'
import { modelColor } from './palette'
import { iso, type Range } from './time'
import { go, only, useRoute } from './url'

const { cost_nano_usd: cost, requests, errors_429: e429, latency_p50: p50, latency_p95: p95, ttft_p95: ttft, input_tokens: input, output_tokens: output, unpriced, output_tokens_per_second: speed } = inSlice

const dims = ['model', 'provider', 'key', 'team', 'user'] as const

// Breakdown says who and what the numbers come from.
export function Breakdown({ me, slices: { by, now, before }, range }: { me: Me; slices: Slices; range: Range }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const tags = useTags(range)
  const asked = params.get('by') ?? 'model'
  const was = new Map(before.series.map(s => [s.group[by], s.total]))
  const rows = now.series.filter(s => s.group[by] !== '' || by !== 'model')
  const whole = now.total[cost] ?? 0
  const name = (v: string) => v === '' ? t('none_named') : v
  const choices: [string, string][] = [...dims.filter(d => d !== 'key' && d !== 'team' || me.admin).map(d => [d, t(d)] as [string, string]), ...tags.map(x => ['tag:' + x, x] as [string, string])]
  if (!choices.some(([d]) => d === asked)) choices.push([asked, asked.replace('tag:', '')])
  return (
    <section class="card breakdown" aria-label={t('breakdown')}>
      <header>
        <h2>{t('breakdown')}</h2>
        <div class="segments small" role="group" aria-label={t('breakdown')}>
          {choices.map(([d, label]) => <button key={d} aria-pressed={asked === d} onClick={() => go({ by: d === 'model' ? null : d }, undefined, true)}>{label}</button>)}
        </div>
      </header>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('breakdown')}>
        <table data-by={by}>
          <thead>
            <tr>
              <th scope="col">{dims.includes(by as any) ? t(by as Word) : by.replace('tag:', '')}</th>
              <th scope="col" class="n">{t('requests')}</th><th scope="col" class="n" title={t('change_hint')}>{t('change')}</th>
              <th scope="col" class="n">{t('error_rate')}</th><th scope="col" class="n">429</th>
              <th scope="col" class="n">P50</th><th scope="col" class="n">P95</th><th scope="col" class="n" title={t('ttft_p95')}>{t('ttft')}</th><th scope="col" class="n">{t('speed')}</th>
              <th scope="col" class="n">{t('tokens_in')}</th><th scope="col" class="n">{t('tokens_out')}</th>
              <th scope="col" class="n">{t('cost')}</th><th scope="col" class="n">{t('share')}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ group, total: v }) => {
              const key = group[by], bad = share(failuresIn(v), v[requests])
              const unknown = !v[cost] && !!v[unpriced]
              return (
                <tr key={key}>
                  <th scope="row">{by === 'model' && <i class="dot" style={{ background: modelColor(key) }} />}<button class="link" onClick={() => go(only(by, key))} disabled={key === '' || key === 'other'}>{name(key)}</button></th>
                  <td class="n">{f.int(v[requests])}</td>
                  <td class="n"><Change now={v[requests]} then={was.get(key)?.[requests] ?? null} /></td>
                  <td class={'n' + (bad !== null && bad >= 0.05 ? ' bad' : '')}>{f.percent(bad)}</td>
                  <td class={'n' + (v[e429] ? '' : ' dim')}>{f.int(v[e429])}</td>
                  <td class="n">{f.ms(v[p50])}</td><td class="n">{f.ms(v[p95])}</td><td class="n">{f.ms(v[ttft])}</td>
                  <td class="n">{v[speed] === null ? '–' : t('per_s', { n: f.int(v[speed]) })}</td>
                  <td class="n" title={f.int(v[input])}>{f.short(v[input])}</td><td class="n" title={f.int(v[output])}>{f.short(v[output])}</td>
                  <td class="n" title={unknown ? t('unpriced') : f.exact(v[cost])}>{unknown ? <em>{t('unpriced')}</em> : f.usd(v[cost])}</td>
                  <td class="n share"><span class="meter"><i style={{ width: 100 * (share(v[cost], whole) ?? 0) + '%' }} /></span>{unknown ? '–' : f.percent(share(v[cost], whole))}</td>
                </tr>
              )
            })}
          </tbody>
        </table>
        {rows.length === 0 && <p class="note center">{t('chart.empty')}</p>}
      </div>
    </section>
  )
}

const mostTags = 4

// useTags are the names of tags that recent Calls carry.
function useTags(range: Range): string[] {
  const [tags, set] = useState<string[]>([])
  const key = [Math.floor(range.from / 3600), Math.floor(range.to / 3600)].join()
  useEffect(() => {
    const abort = new AbortController()
    get<Page>('/api/v1/calls?' + new URLSearchParams({ limit: '50', from: iso(range.from), to: iso(range.to) }), abort.signal)
      .then(p => set([...new Set(p.calls.flatMap(c => Object.keys(c.tags)))].sort().slice(0, mostTags)), () => {})
    return () => abort.abort()
  }, [key])
  return tags
}
