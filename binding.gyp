# No sources here: CMakeLists.txt holds them. Whoever calls node-gyp (npm rebuild, prebuildify) gets
# the same build as everyone else.
{
  "targets": [
    {
      "target_name": "mixprec",
      "type": "none",
      "actions": [
        {
          "action_name": "build with CMake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/Release/mixprec.node"],
          "action": ["node", "scripts/build.mjs", "--native"]
        }
      ]
    }
  ]
}
