package remote

import (
	"net/http"
	"runtime"
	"sync"

	"github.com/tccsaga/tccsaga/saga"
	"github.com/tccsaga/tccsaga/saga/internal/wire"
)

// serveBatch makes the calls of a batch side by side, and answers each one as soon as it has
// ended. So no call waits for another one.
func (x *exchange) serveBatch(calls []saga.Call) {
	answers := make(chan []byte, len(calls))
	var running sync.WaitGroup
	for number, c := range calls {
		running.Go(func() {
			one := &exchange{host: x.host, r: x.r, id: x.id, signed: x.signed, call: c}
			err := one.checkCall()
			if err == nil {
				err = one.checkPayload()
			}
			if err == nil {
				err = x.host.Call(x.r.Context(), one.call)
			}
			answers <- one.line(number, err)
		})
	}
	go func() { running.Wait(); close(answers) }()
	header := x.w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	out := http.NewResponseController(x.w)
	for line := range answers {
		if _, err := x.w.Write(line); err != nil {
			break // the caller is gone; the calls end with its context
		}
		if len(answers) == 0 {
			runtime.Gosched() // calls that share a commit end at the same moment: send their answers together
		}
		if len(answers) == 0 {
			_ = out.Flush() // without support for it, the answers come at the end
		}
	}
	running.Wait()
}

// line returns the line that answers a call of a batch.
func (x *exchange) line(number int, err error) []byte {
	status, reply := x.reply(err)
	x.name(&reply, err)
	body := reply.Encode(status)
	code := "-"
	if x.signed != nil {
		code = x.signed.answerCode(status, body)
	}
	return wire.EncodeAnswer(number, status, code, body)
}
