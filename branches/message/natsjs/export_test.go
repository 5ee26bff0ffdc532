package natsjs

// Pending returns how many publishes wait for their acknowledgement.
func (b *Broker) Pending() int { return b.js.PublishAsyncPending() }
