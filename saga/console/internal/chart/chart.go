// Package chart computes the shapes of small charts. A template draws them as SVG, so that no
// text is put into the page unescaped.
package chart

import (
	"strconv"
	"strings"
)

// Width and Height are the size of a chart, in units of its viewBox.
const (
	Width  = 300
	Height = 60
)

// Bar is a bar that stands on the ground of the chart, or on another bar.
type Bar struct{ X, Y, W, H float64 }

// Bars returns a bar for each value. The value most has the height of the chart.
func Bars(values []float64, most float64) []Bar { return stacked(values, nil, most) }

// Stacked returns bars for upper that stand on the bars of lower.
func Stacked(lower, upper []float64, most float64) []Bar { return stacked(upper, lower, most) }

func stacked(values, below []float64, most float64) []Bar {
	bars := make([]Bar, len(values))
	step := Width / float64(max(len(values), 1))
	for i, v := range values {
		h, ground := height(v, most), 0.0
		if below != nil {
			ground = height(below[i], most)
		}
		bars[i] = Bar{X: round(float64(i)*step + step*0.1), Y: round(Height - ground - h), W: round(step * 0.8), H: round(h)}
	}
	return bars
}

// Line returns the points of a polyline through the values, as SVG writes them. The value most is
// at the top of the chart.
func Line(values []float64, most float64) string {
	var points strings.Builder
	step := Width / float64(max(len(values), 1))
	for i, v := range values {
		if i > 0 {
			points.WriteByte(' ')
		}
		points.WriteString(number(float64(i)*step + step/2))
		points.WriteByte(',')
		points.WriteString(number(Height - height(v, most)))
	}
	return points.String()
}

// Most returns the largest value, or least if all values are smaller.
func Most(least float64, lists ...[]float64) float64 {
	for _, list := range lists {
		for _, v := range list {
			least = max(least, v)
		}
	}
	return least
}

// height returns the height of a value; a small one is visible all the same.
func height(v, most float64) float64 {
	if v <= 0 || most <= 0 {
		return 0
	}
	return max(1, min(Height, v/most*Height))
}

func round(v float64) float64 { return float64(int(v*10+0.5)) / 10 }

func number(v float64) string { return strconv.FormatFloat(round(v), 'f', -1, 64) }
