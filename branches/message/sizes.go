package message

import "time"

const (
	// batchTime is how long the handlers of the messages in one local transaction work
	// together.
	batchTime = 20 * time.Millisecond

	// maxBatch is the most messages in one local transaction, unless Batch is set.
	maxBatch = 32

	// prefetchTime is how much work a process fetches ahead: as much as its workers do
	// in this time. Further messages of a slow handler stay in the broker, where other
	// processes can get them.
	prefetchTime = 100 * time.Millisecond

	// maxPrefetch is the most messages that a process fetches ahead.
	maxPrefetch = 512
)

// sizes computes how many messages a consumer handles and fetches at once.
type sizes struct {
	config ConsumerConfig
	state  *state
}

// batch is how many messages a local transaction handles.
func (s sizes) batch() int {
	if s.config.Batch > 0 {
		return s.config.Batch
	}
	_, average := s.state.averages()
	if average <= 0 {
		return 1
	}
	return max(1, min(maxBatch, int(batchTime/average)))
}

// window is how many messages this process may have.
func (s sizes) window() int {
	window := s.config.Workers * s.batch()
	if average, _ := s.state.averages(); average > 0 {
		window += min(maxPrefetch, int(prefetchTime/average)*s.config.Workers)
	}
	return window
}

// minRequest is how many messages are worth a request while no worker waits: each request
// costs a commit in the inbox.
func minRequest(window int) int { return max(1, window/2) }
