package web

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/branches/stock"
)

// Stock adds the pages that show and set the stock of an article.
func Stock(r *gin.Engine, shelf *stock.Stock) {
	Get(r, "/stock/:sku", func(c *gin.Context) {
		level, err := shelf.Get(c.Request.Context(), Param(c, "sku"))
		stockAnswer(c, level, err)
	})
	r.PUT("/stock/:sku", func(c *gin.Context) {
		var body struct {
			Available *int64 `json:"available"`
		}
		if !Decode(c, &body) {
			return
		}
		if body.Available == nil {
			Fail(c, http.StatusBadRequest, `the body needs "available"`)
			return
		}
		ctx, sku := c.Request.Context(), Param(c, "sku")
		err := shelf.Put(ctx, sku, *body.Available)
		var level stock.Level
		if err == nil {
			level, err = shelf.Get(ctx, sku)
		}
		stockAnswer(c, level, err)
	})
}

func stockAnswer(c *gin.Context, level stock.Level, err error) {
	switch {
	case err == nil:
		c.JSON(http.StatusOK, level)
	case errors.Is(err, stock.ErrUnknownSKU):
		Fail(c, http.StatusNotFound, err.Error())
	case errors.Is(err, stock.ErrInvalid):
		Fail(c, http.StatusBadRequest, err.Error())
	default:
		Unavailable(c, "the stock cannot be read or set now: try again", err)
	}
}

// CheckItem returns what is wrong with an article and its quantity. The branch would
// reject them too, but then the gid of the order would stay cancelled.
func CheckItem(sku string, quantity int64) error {
	switch n := utf8.RuneCountInString(sku); {
	case n == 0 || n > stock.MaxSKU || strings.TrimSpace(sku) != sku || strings.ContainsFunc(sku, unicode.IsControl):
		return fmt.Errorf("sku must have 1 to %d characters, without control characters or spaces at its ends", stock.MaxSKU)
	case quantity < 1 || quantity > stock.MaxQuantity:
		return fmt.Errorf("quantity must be between 1 and %d", stock.MaxQuantity)
	}
	return nil
}
