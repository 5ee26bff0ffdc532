package call

import (
	"gorm.io/gorm"

	"github.com/tccsaga/tccsaga/saga"
)

// Gather keeps calls like one in a database until n of them wait, and then makes them in one
// batch.
func (c *Caller) Gather(db *gorm.DB, one saga.Call, n int) {
	p, err := c.gatherer.in(db)
	if err != nil {
		panic(err)
	}
	p.groups.Gather(groupOf(one), n)
}
