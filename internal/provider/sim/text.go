package sim

import (
	"math/rand/v2"
	"strings"
)

// Sentences that answers are made of. They say nothing false and nothing
// about anybody.
var english = strings.Split(`The short answer is yes, with one condition.
Start with the smallest change that could work and measure it.
Most of the time is spent waiting for the disk, not computing.
A queue in front of the worker keeps the peaks away from the database.
If the request fails, wait a moment and try it again with the same key.
The figures of the last quarter were slightly better than expected.
Here is a summary of the three documents you sent.
You can cancel the order until it has been handed to the carrier.
Please check the invoice number and the date before you reply.
In other words, the cost grows with the length of the prompt.
The second option is slower but much easier to explain to a new colleague.
First sort the list, then walk over it once and keep the largest value.
There are two common causes for this message, and both are easy to check.
The meeting notes mention a deadline on Friday and an open question.
A short timeout with a few retries is safer than one long wait.
Customers who asked about refunds waited four hours on average.
Use an index on the column that the query filters by.
That is a fair point, and the data supports most of it.
The translation keeps the tone of the original and its humour.
Finally, write down what you learned so that others can find it.`, "\n")

var koreanText = strings.Split(`요청하신 내용을 세 가지로 정리해 드리겠습니다.
먼저 가장 작은 변경부터 적용하고 결과를 측정해 보세요.
주문은 배송이 시작되기 전까지 취소하실 수 있습니다.
대부분의 시간은 계산이 아니라 디스크를 기다리는 데 쓰입니다.
같은 오류가 반복되면 잠시 후에 다시 시도해 주세요.
지난 분기의 수치는 예상보다 조금 더 좋았습니다.
프롬프트가 길어질수록 비용도 함께 늘어납니다.
환불을 문의한 고객은 평균 네 시간을 기다렸습니다.
두 번째 방법은 조금 느리지만 설명하기가 훨씬 쉽습니다.
마지막으로 배운 내용을 기록해 두면 다른 사람에게 도움이 됩니다.`, "\n")

// speak returns about tokens tokens of text in pieces of a word each: 1.3
// tokens an English word, 2.2 a Korean one.
func speak(r *rand.Rand, tokens int, korean bool) []string {
	sentences, each := english, 1.3
	if korean {
		sentences, each = koreanText, 2.2
	}
	want := max(1, int(float64(tokens)/each))
	var p []string
	for len(p) < want {
		for w := range strings.FieldsSeq(sentences[r.IntN(len(sentences))]) {
			if len(p) > 0 {
				w = " " + w
			}
			p = append(p, w)
		}
	}
	return p[:want]
}

// bundle joins pieces so that no more than n are left: fast models send
// several tokens an event.
func bundle(p []string, n int) []string {
	if len(p) <= n {
		return p
	}
	each := (len(p) + n - 1) / n
	var b []string
	for len(p) > 0 {
		k := min(each, len(p))
		b, p = append(b, strings.Join(p[:k], "")), p[k:]
	}
	return b
}

// maxEvents bounds the text events of one stream.
const maxEvents = 80
