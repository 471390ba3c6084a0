import { useEffect, useLayoutEffect, useState } from 'preact/hooks'
import { code, type Call } from './api'
import { classWord } from './causes'
import { useLocal } from './i18n'
import { modelColor } from './palette'
import { go, noFilter } from './url'

export const rowHeight = 32, tallRow = 56

export function reveal(el: HTMLElement | null, i: number, height: number) {
  if (!el) return
  const top = i * height
  if (top < el.scrollTop) el.scrollTop = top
  else if (top + 2 * height > el.scrollTop + el.clientHeight) el.scrollTop = top + 2 * height - el.clientHeight
}

interface RowsProps {
  box: { current: HTMLDivElement | null }; calls: Call[]; at: number; open: string | null; loading: boolean; none: boolean
  long: boolean // the range is: times need their day
  tall: boolean // a row has two lines
  ended: boolean // there are no more
  onOpen: (c: Call) => void; more?: () => void
}

// Rows draws only what is in sight.
export function Rows({ box, calls, at, open, loading, none, long, tall, ended, onOpen, more }: RowsProps) {
  const { t, f, zone } = useLocal()
  const [view, setView] = useState({ top: 0, height: 800 })
  const height = tall ? tallRow : rowHeight
  useLayoutEffect(() => {
    const el = box.current!
    const look = () => setView({ top: el.scrollTop, height: el.clientHeight })
    const sized = new ResizeObserver(look)
    sized.observe(el)
    el.addEventListener('scroll', look, { passive: true })
    return () => { sized.disconnect(); el.removeEventListener('scroll', look) }
  }, [])
  useEffect(() => { if (more && (calls.length - 20) * height < view.top + view.height) more() }, [view, more, calls.length])
  const first = Math.max(0, Math.floor(view.top / height) - 8)
  const last = Math.min(calls.length, Math.ceil((view.top + view.height) / height) + 8)
  const columns = tall ? 1 : 10
  const time = (c: Call) => (long ? f.day(Date.parse(c.started_at) / 1000) + ' ' : '') + f.second(Date.parse(c.started_at) / 1000)
  return (
    <div class="rows card" ref={box} tabIndex={0} role="region" aria-label={t('list')} aria-busy={loading}>
      <table aria-rowcount={calls.length} class={tall ? 'tall' : ''}>
        {tall ? <thead class="unseen"><tr><th scope="col">{t('request')}</th></tr></thead> : (
          <thead>
            <tr>
              <th scope="col">{t('time')} <small>{zone}</small></th><th scope="col">{t('status')}</th><th scope="col">{t('model')}</th><th scope="col">{t('key')}</th><th scope="col" class="u">{t('user')}</th>
              <th scope="col" class="n">{t('tokens_in')}</th><th scope="col" class="n">{t('tokens_out')}</th><th scope="col" class="n f">{t('ttft')}</th>
              <th scope="col" class="n">{t('latency')}</th><th scope="col" class="n">{t('cost')}</th>
            </tr>
          </thead>
        )}
        <tbody>
          {first > 0 && <tr style={{ height: first * height + 'px' }} aria-hidden="true"><td colSpan={columns} /></tr>}
          {calls.slice(first, last).map((c, i) => (
            <tr key={c.id} aria-rowindex={first + i + 1} class={(c.id === open ? 'open ' : '') + (first + i === at ? 'at' : '')} onClick={() => onOpen(c)} data-id={c.id}>
              {tall ? (
                <td>
                  <div><Badge call={c} brief /><span class="m"><Model call={c} /></span><b><Cost call={c} /></b></div>
                  <div class="dim"><button class="link" title={t('open_call', { id: c.id })}>{time(c)}</button><span class="m">{c.key}{c.error.class && ' · ' + classWord(t, c.error.class)}</span><span>{f.short(c.usage.input_tokens)} → {f.short(c.usage.output_tokens)}</span><span>{f.ms(c.latency_ms)}</span></div>
                </td>
              ) : (
                <>
                  <td class="t"><button class="link" title={t('open_call', { id: c.id })}>{time(c)}</button></td>
                  <td><Badge call={c} /></td>
                  <td class="m" title={c.provider + '/' + c.model}><Model call={c} /></td>
                  <td class="k">{c.key}{c.attempts.length > 1 && <small title={t('attempts_n', { n: c.attempts.length })}>↻{c.attempts.length}</small>}</td>
                  <td class="u dim">{c.user}</td>
                  <td class="n">{f.int(c.usage.input_tokens)}</td><td class="n">{f.int(c.usage.output_tokens)}</td>
                  <td class="n f dim">{c.ttft_ms ? f.ms(c.ttft_ms) : ''}</td><td class="n">{f.ms(c.latency_ms)}</td>
                  <td class="n"><Cost call={c} /></td>
                </>
              )}
            </tr>
          ))}
          {last < calls.length && <tr style={{ height: (calls.length - last) * height + 'px' }} aria-hidden="true"><td colSpan={columns} /></tr>}
        </tbody>
      </table>
      {loading && <p class="note center" role="status">{t('loading')}</p>}
      {none && <p class="note center">{t('no_match')} <button class="link" onClick={() => go({ ...noFilter, range: '90d', from: null, to: null })}>{t('widen')}</button></p>}
      {!loading && !none && ended && <p class="note center">{t('end')}</p>}
    </div>
  )
}

const Model = ({ call: c }: { call: Call }) => (
  <>{c.model ? <i class="dot" style={{ background: modelColor(c.model) }} /> : <i class="dot none" />}{c.model || c.model_requested}{c.model_requested !== c.model && c.model ? <small>{c.model_requested}</small> : <small>{c.provider}</small>}</>
)

function Cost({ call: { cost_nano_usd: n } }: { call: Call }) {
  const { t, f } = useLocal()
  return n === null ? <em>{t('unpriced')}</em> : <span class={n ? '' : 'dim'} title={f.exact(n)}>{f.micro(n)}</span>
}

export function Badge({ call: c, brief }: { call: Call; brief?: boolean }) {
  const { t } = useLocal()
  const k = code(c)
  return <span class={'badge b-' + k}><i />{k === 'canceled' ? t('canceled') : c.http_status}{c.error.class && k !== 'canceled' && !brief && <small>{classWord(t, c.error.class)}</small>}</span>
}
