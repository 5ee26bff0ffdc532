package commit

// Gather delays the next batch until it has n members.
func (w *Writer) Gather(n int) { w.groups.Gather("", n) }
