// Charts: draws what the server put into data-chart. Words come with each point; nothing here is made into HTML.

import * as echarts from "../vendor/echarts-6.1.0.esm.min.js";
import { number } from "./texts.js";

const PER_ROW = { dots: 62, heat: 34, stack: 34 }; // pixels
const PER_SERIES = 11; // pixels between the points of one category

const looks = [matchMedia("(prefers-color-scheme: dark)"), matchMedia("print")];
const still = matchMedia("(prefers-reduced-motion: reduce)");
const drawn = [];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const percent = (value) => `${number(Number((100 * value).toPrecision(3)), { maximumSignificantDigits: 3 })} %`;

function colours() {
  return {
    font: getComputedStyle(document.body).fontFamily,
    ink: colour("ink"), muted: colour("muted"), rule: colour("rule"), mount: colour("mount"), well: colour("well"),
    accent: colour("accent"), paper: colour("paper"),
    series: ["accent", "series-2", "series-3", "series-4", "series-5"].map(colour),
    stages: { probe: colour("stage-probe"), fetch: colour("stage-fetch"), rank: colour("stage-rank"), embed: colour("stage-embed"), decode: colour("stage-decode") },
  };
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** What the axes of all kinds share. */
const axis = (look, more) => ({
  axisLine: { lineStyle: { color: look.rule } },
  axisTick: { show: false },
  nameTextStyle: { color: look.muted },
  ...more,
  splitLine: { lineStyle: { color: look.rule, type: [2, 4] }, ...more.splitLine },
  axisLabel: { color: look.muted, hideOverlap: true, fontFamily: look.font, ...more.axisLabel },
});

const legend = (spec, look) => ({
  show: spec.series.length > 1, top: 0, left: 0, icon: "circle", itemWidth: 9, itemHeight: 9,
  textStyle: { color: look.ink }, inactiveColor: look.rule,
});

/** A line between two places with short bars at its ends. */
const whisker = (from, to, stroke, across) => ({
  type: "path",
  shape: {
    pathData: across
      ? `M${from[0]},${from[1] - 3}v6 M${from[0]},${from[1]}H${to[0]} M${to[0]},${to[1] - 3}v6`
      : `M${from[0] - 3},${from[1]}h6 M${from[0]},${from[1]}V${to[1]} M${to[0] - 3},${to[1]}h6`,
  },
  style: { fill: "none", stroke, lineWidth: 1.3, opacity: 0.75 },
  silent: true,
});

const scaled = (points) => {
  const low = Math.min(...points.map((point) => point.low ?? point.y).filter((value) => value !== null));
  return Number.isFinite(low) && low > 0.55 ? Math.floor(low * 10) / 10 : 0;
};

const HOUR = 3_600_000;

/** The ends of a time axis whose points lie within an hour: left to itself, it would show years around a single one. */
const around = (points) => {
  const times = points.map((point) => new Date(point.x).getTime());
  const [first, last] = [Math.min(...times), Math.max(...times)];
  return last - first < HOUR ? { min: (first + last - HOUR) / 2, max: (first + last + HOUR) / 2 } : {};
};

const build = {
  /** Figures over time; a point without a value is a gap. */
  lines(spec, look) {
    const all = spec.series.flatMap((one) => one.points);
    return {
      grid: { left: 4, right: 16, top: 42, bottom: 4, containLabel: true },
      legend: legend(spec, look),
      xAxis: axis(look, { type: "time", splitLine: { show: false }, boundaryGap: ["4%", "4%"], ...around(all) }),
      yAxis: axis(look, { type: "value", min: scaled(all), max: 1, axisLabel: { formatter: (value) => number(value) } }),
      series: spec.series.flatMap((one, place) => {
        const stroke = look.series[place];
        return [
          {
            type: "line", name: one.name, color: stroke, symbol: "circle", symbolSize: 8, lineStyle: { width: 2 },
            data: one.points.map((point) => [point.x, point.y ?? "-"]),
          },
          {
            type: "custom", name: one.name, color: stroke, silent: true, z: 1,
            data: one.points.filter((point) => point.low !== undefined).map((point) => [point.x, point.low, point.high]),
            renderItem: (_, api) => whisker(api.coord([api.value(0), api.value(1)]), api.coord([api.value(0), api.value(2)]), stroke, false),
          },
        ];
      }),
      told: spec.series.map((one, place) => [2 * place, one.points]),
    };
  },

  /** Figures of categories, one below the other, each with its interval. */
  dots(spec, look, width) {
    const offset = (place) => (place - (spec.series.length - 1) / 2) * PER_SERIES;
    return {
      grid: { left: 4, right: 16, top: 36, bottom: 4, containLabel: true },
      legend: legend(spec, look),
      xAxis: axis(look, { type: "value", min: scaled(spec.series.flatMap((one) => one.points)), max: 1, axisLabel: { formatter: (value) => number(value) } }),
      yAxis: axis(look, {
        type: "category", inverse: true, data: spec.categories, splitLine: { show: true },
        axisLabel: { color: look.ink, interval: 0, width: width < 500 ? 110 : 230, overflow: "break", lineHeight: 15 },
      }),
      series: spec.series.map((one, place) => ({
        type: "custom", name: one.name, color: look.series[place],
        data: one.points.map((point, row) => [point.y, row, point.low ?? point.y, point.high ?? point.y]),
        encode: { x: [0, 2, 3], y: 1 },
        renderItem(_, api) {
          const [x, y] = api.coord([api.value(0), api.value(1)]);
          const [from] = api.coord([api.value(2), api.value(1)]);
          const [to] = api.coord([api.value(3), api.value(1)]);
          const at = y + offset(place);
          const dot = { type: "circle", shape: { cx: x, cy: at, r: 4.5 }, style: { fill: look.series[place] } };
          const room = { type: "rect", shape: { x: Math.min(from, x - 6), y: at - 5, width: Math.max(12, to - from), height: 10 }, style: { fill: "transparent" } };
          return { type: "group", children: [room, ...(to > from ? [whisker([from, at], [to, at], look.series[place], true)] : []), dot] };
        },
      })),
      told: spec.series.map((one, place) => [place, one.points]),
    };
  },

  /** A table in colour. */
  heat(spec, look, width) {
    const narrow = width < 500;
    const room = (width - (narrow ? 96 : 190)) / spec.columns.length;
    const turned = Math.max(...spec.columns.map((text) => text.length)) * 7 > room;
    return {
      grid: { left: 4, right: 4, top: 28, bottom: 4, containLabel: true },
      xAxis: axis(look, {
        type: "category", data: spec.columns, splitLine: { show: false },
        axisLabel: { color: look.ink, interval: 0, rotate: turned ? 50 : 0, formatter: (text) => cut(text, 14) },
      }),
      yAxis: axis(look, {
        type: "category", inverse: true, data: spec.rows, splitLine: { show: false }, nameLocation: "start", nameGap: 10,
        name: `${spec.row_title} ↓   ${spec.column_title} →`, nameTextStyle: { color: look.muted, align: "left" },
        axisLabel: { color: look.ink, interval: 0, formatter: (text) => cut(text, narrow ? 11 : 24) },
      }),
      visualMap: { show: false, min: 0, max: spec.highest, inRange: { color: [look.well, look.accent] } },
      series: [{
        type: "heatmap",
        data: spec.cells.map((cell) => ({
          value: [cell.column, cell.row, cell.value],
          label: { show: room > 24, formatter: () => cell.label, fontSize: room < 40 ? 9 : 12, color: cell.value > 0.55 * spec.highest ? look.paper : look.ink },
        })),
        itemStyle: { borderColor: look.mount, borderWidth: 2 },
        emphasis: { itemStyle: { borderColor: look.ink } },
      }],
      told: [[0, spec.cells]],
    };
  },

  /** One figure against another. */
  scatter(spec, look, width) {
    const all = spec.series.flatMap((one) => one.points);
    const least = Math.min(...all.map((point) => point.x).filter((x) => x > 0));
    return {
      grid: { left: 4, right: 22, top: spec.series.length > 2 && width < 500 ? 84 : 62, bottom: 34, containLabel: true },
      legend: legend(spec, look),
      xAxis: axis(look, {
        type: "log", min: 10 ** Math.floor(Math.log10(least)), max: 1, name: spec.x_title, nameLocation: "middle", nameGap: 30,
        axisLabel: { formatter: percent },
      }),
      yAxis: axis(look, { type: "value", min: 0, max: 1, axisLabel: { formatter: (value) => number(value) }, name: spec.y_title, nameTextStyle: { color: look.muted, align: "left" } }),
      series: spec.series.flatMap((one, place) => {
        const stroke = look.series[place % look.series.length];
        const points = one.points.filter((point) => point.x > 0);
        return [
          { type: "scatter", name: one.name, color: stroke, symbolSize: 11, z: 3, data: points.map((point) => [point.x, point.y]) },
          {
            type: "custom", name: one.name, color: stroke, silent: true, z: 2, data: points.map((point) => [point.x, point.low, point.high]),
            renderItem: (_, api) => whisker(api.coord([api.value(0), api.value(1)]), api.coord([api.value(0), api.value(2)]), stroke, false),
          },
        ];
      }),
      told: spec.series.map((one, place) => [2 * place, one.points.filter((point) => point.x > 0)]),
    };
  },

  /** Times that add up. */
  stack(spec, look, width) {
    return {
      grid: { left: 4, right: 30, top: 36, bottom: 4, containLabel: true },
      legend: legend(spec, look),
      xAxis: axis(look, { type: "value", axisLabel: { formatter: (value) => `${number(value)} ms` } }),
      yAxis: axis(look, {
        type: "category", inverse: true, data: spec.categories, splitLine: { show: false },
        axisLabel: { color: look.ink, interval: 0, width: width < 500 ? 110 : 230, overflow: "break", lineHeight: 15 },
      }),
      series: spec.series.map((one, place) => ({
        type: "bar", stack: "all", name: one.name, color: look.stages[one.stage] ?? look.series[place], barMaxWidth: 16,
        data: one.points.map((point) => point.y),
      })),
      told: spec.series.map((one, place) => [place, one.points]),
    };
  },
};

/** What a point says, as an element. */
function words(text) {
  const box = document.createElement("div");
  box.className = "tip";
  box.append(...text.map((line) => Object.assign(document.createElement("span"), { textContent: line })));
  return box;
}

function draw(one) {
  const { plot, spec } = one;
  if (PER_ROW[spec.kind]) {
    const rows = (spec.categories ?? spec.rows).length;
    plot.style.height = `${Math.max(150, 96 + PER_ROW[spec.kind] * rows)}px`;
  }
  one.chart?.dispose();
  one.chart = echarts.init(plot, null, { renderer: "svg" });
  const look = colours();
  const { told, ...option } = build[spec.kind](spec, look, plot.clientWidth);
  one.told = told.flatMap(([series, points]) => points.map((point, index) => ({ series, index, point }))).filter(({ point }) => point.text.length);
  const shown = new Map(one.told.map((item) => [`${item.series}/${item.index}`, item.point]));
  one.chart.setOption({
    ...option,
    useUTC: true,
    animation: !still.matches && !one.was,
    animationDuration: 350,
    textStyle: { fontFamily: look.font },
    tooltip: {
      trigger: "item", confine: true, transitionDuration: 0, padding: 0, borderWidth: 0, backgroundColor: "transparent", extraCssText: "box-shadow: none;",
      formatter: ({ seriesIndex, dataIndex }) => words(shown.get(`${seriesIndex}/${dataIndex}`)?.text ?? []),
    },
  });
  one.chart.on("click", ({ seriesIndex, dataIndex }) => follow(shown.get(`${seriesIndex}/${dataIndex}`)));
  one.was = true;
  one.width = plot.clientWidth;
  one.figure.dataset.drawn = String(one.told.length);
}

function follow(point) {
  if (point?.url) location.assign(point.url);
}

/** Let the keyboard read the points: arrows go on and back, Enter follows, Escape ends. */
function read(one, event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    one.chart.dispatchAction({ type: "hideTip" });
  } else if (event.key === "Enter") {
    follow(one.told[one.at]?.point);
  } else if (step && one.told.length) {
    event.preventDefault();
    const many = one.told.length;
    one.at = one.at === undefined ? (step > 0 ? 0 : many - 1) : (one.at + step + many) % many;
    const { series, index, point } = one.told[one.at];
    one.chart.dispatchAction({ type: "downplay" });
    one.chart.dispatchAction({ type: "highlight", seriesIndex: series, dataIndex: index });
    one.chart.dispatchAction({ type: "showTip", seriesIndex: series, dataIndex: index });
    one.figure.querySelector("[role=status]").textContent = point.text.join(", ");
  }
}

for (const figure of document.querySelectorAll("[data-chart]")) {
  const one = { figure, plot: figure.querySelector(".plot"), spec: JSON.parse(figure.dataset.chart) };
  drawn.push(one);
  draw(one);
  one.plot.addEventListener("keydown", (event) => read(one, event));
  one.plot.addEventListener("blur", () => one.chart.dispatchAction({ type: "hideTip" }));
  new ResizeObserver(() => { if (one.plot.clientWidth && one.plot.clientWidth !== one.width) draw(one); }).observe(one.plot);
}
for (const look of looks) look.addEventListener("change", () => drawn.forEach(draw));

// On paper, tables that are folded away are unfolded, and pictures further down are there.

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const details of folded) details.open = true;
  for (const picture of document.querySelectorAll("img[loading=lazy]")) picture.loading = "eager";
});
addEventListener("afterprint", () => {
  for (const details of folded) details.open = false;
});
