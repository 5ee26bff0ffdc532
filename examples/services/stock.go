package main

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/tccsaga/tccsaga/branches/stock"
	"github.com/tccsaga/tccsaga/tcc"
)

// runStock is the stock service: the ready-made branch, in a host.
func runStock(ctx context.Context, config Config) error {
	s, err := newService(ctx, config, "stock", config.StockAddr, config.StockDB)
	if err != nil {
		return err
	}
	defer s.close()
	shelf := stock.New(s.db)
	if err := tcc.Register(s.host, shelf); err != nil {
		return err
	}
	s.routes.GET("/stock/:sku", func(c *gin.Context) {
		level, err := shelf.Get(c.Request.Context(), c.Param("sku"))
		if err != nil {
			fail(c, http.StatusNotFound, err.Error())
			return
		}
		c.JSON(http.StatusOK, level)
	})
	s.routes.PUT("/stock/:sku", func(c *gin.Context) {
		var body struct {
			Available int64 `json:"available"`
		}
		if !decode(c, &body) {
			return
		}
		if err := shelf.Put(c.Request.Context(), c.Param("sku"), body.Available); err != nil {
			fail(c, http.StatusBadRequest, err.Error())
			return
		}
		c.JSON(http.StatusOK, gin.H{"sku": c.Param("sku"), "available": body.Available})
	})
	return s.serve(ctx)
}
