"""Models as bundles: card, graph, weights; the store; importing an ONNX file."""
