// Unpacks plotly.js and draws the charts. Where that fails, each chart's description stays in its place.
(async () => {
  const read = (id) => document.getElementById(id).textContent.trim();
  const packed = Uint8Array.from(atob(read("plotly")), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);

  const figures = JSON.parse(read("figures"));
  const touch = matchMedia("(pointer: coarse)").matches;
  for (const chart of document.querySelectorAll(".chart")) {
    const { data, layout } = figures[chart.dataset.figure];
    if (touch) layout.dragmode = false; // a finger on a chart scrolls the page
    chart.replaceChildren();
    const buttons = data[0].type === "parcoords" ? ["toImage"] : ["toImage", "zoom2d", "pan2d", "resetScale2d"];
    await Plotly.newPlot(chart, data, layout, {
      responsive: true,
      displayModeBar: touch ? false : "hover",
      displaylogo: false,
      modeBarButtons: [buttons], // plotly's own choice has one that sends the chart to its server
      plotlyServerURL: "",
    });
  }
})();
