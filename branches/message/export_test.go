package message

// Window is how many messages the process of a consumer may have.
func (c *Consumer) Window() int { return c.sizes.window() }
