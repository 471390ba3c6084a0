// A model keeps its colour: on every chart, page and day in this browser.

const slots = 6 // --m0 to --m5
const name = 'models'
const known: Record<string, number> = read()

function read(): Record<string, number> {
  try { return JSON.parse(localStorage.getItem(name) ?? '') ?? {} } catch { return {} }
}

// preferred is where a model would like to be: the same in every browser.
function preferred(model: string): number {
  let h = 10257 // with it the most used models differ
  for (let i = 0; i < model.length; i++) h = Math.imul(h ^ model.charCodeAt(i), 16777619)
  return (h >>> 8) % slots
}

// slot is the place of a model: the one it had, or of those that fewest have
// the next to the one it prefers.
function slot(model: string): number {
  if (!(known[model] < slots)) {
    const uses = Array(slots).fill(0)
    for (const s of Object.values(known)) uses[s]++
    const least = Math.min(...uses)
    let s = preferred(model)
    while (uses[s] > least) s = (s + 1) % slots
    known[model] = s
    localStorage.setItem(name, JSON.stringify(known))
  }
  return known[model]
}

export const modelColor = (model: string) => `var(--m${slot(model)})`
export const otherColor = 'var(--m-rest)'
export const mostColors = slots

// modelColors are those of models side by side: of two that would have the
// same, the later gets a free one.
export function modelColors(models: string[]): string[] {
  const taken = new Set<number>()
  return models.map(m => {
    let s = slot(m)
    for (let n = 0; taken.has(s) && n < slots; n++) s = (s + 1) % slots
    taken.add(s)
    return `var(--m${s})`
  })
}
